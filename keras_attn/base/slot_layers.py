"""Layers that users put into the slots of other layers: which arguments they take, how to build and call them."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

import keras
from keras import ops

from keras_attn.base.tensors import short_repr
from keras_attn.base.types import ArrayLike, CallArguments, Shape, State, Tensor

Stepwise = TypeVar("Stepwise", bound=keras.layers.Layer)
PADDING = {name: " (there is padding, which it would attend to)" for name in ("mask", "memory_mask")}


class NewPositions(Protocol):
    """The attributes of a `Chunk` that `run_slot` passes to custom layers."""

    @property
    def start(self) -> ArrayLike: ...

    @property
    def counts(self) -> CallArguments: ...


def call_signature(layer: keras.layers.Layer) -> inspect.Signature:
    """Returns the signature of a layer's `call`, without `self`. That of a class is inspected once."""
    function = getattr(layer.call, "__func__", None)
    return inspect.signature(layer.call) if function is None else _method_signature(function)


@functools.lru_cache(maxsize=1024)
def _method_signature(function: Callable[..., State]) -> inspect.Signature:
    """Returns the signature that a function has as a method, without its first argument."""
    return inspect.signature(types.MethodType(function, object()))


def check_call(slot: str, layer: keras.layers.Layer, *names: str) -> None:
    """Raises a `ValueError` unless `layer.call` takes the tensors `names` and requires no other argument."""
    signature = call_signature(layer)
    try:
        bound = signature.bind(*names)
    except TypeError:
        bound = None
    if bound is None or bound.arguments.keys() & {"mask", "training"}:  # would be bound to a second tensor
        raise ValueError(
            f"`{slot}` must be a layer whose `call` takes ({', '.join(names)}) and needs no other argument. Wrap it "
            f"in a layer whose `call` does. Received: {short_repr(layer)}, whose `call` takes {signature}."
        )


def accepted(layer: keras.layers.Layer) -> Callable[[str], bool]:
    """Returns a function from an argument's name to whether the layer's `call` takes it."""
    parameters = call_signature(layer).parameters.values()
    names = {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    # A functional model passes arguments that its `call` does not name to each of its layers.
    everything = not isinstance(layer, keras.Model) and any(each.kind == each.VAR_KEYWORD for each in parameters)
    return lambda name: everything or name in names


def check_given(slot: str, layer: keras.layers.Layer, named: CallArguments) -> None:
    """Raises a `ValueError` if the `call` of the slot's layer does not take an argument that is given."""
    given = [name for name, value in named.items() if value is not None and value is not False]
    if not given:
        return
    takes = accepted(layer)
    for name in given:
        if not takes(name):
            raise ValueError(
                f"`{slot}` must be a layer whose `call` takes `{name}`, which is given{PADDING.get(name, '')}. "
                f"Received: {short_repr(layer)}, whose `call` takes {call_signature(layer)}."
            )


def call_slot(
    slot: str,
    layer: keras.layers.Layer,
    tensors: Sequence[Tensor],
    named: CallArguments,
    optional: Collection[str] = ("training",),
) -> Tensor | tuple[Tensor, Tensor]:
    """Calls the layer in a slot with those arguments that its `call` takes.

    Args:
        slot: Name of the slot, for messages.
        layer: The layer.
        tensors: Its positional arguments.
        named: Its keyword arguments by name. Those that are None or False, and those in
            `optional`, are left out if the `call` does not take them.
        optional: Names of arguments that the layer may lack.

    Returns:
        The outputs of the layer, or (outputs, scores) if `named` requests scores.

    Raises:
        ValueError: If the layer does not take an argument or does not return what is requested.
    """
    check_given(slot, layer, {name: value for name, value in named.items() if name not in optional})
    takes = accepted(layer)
    outputs = layer(*tensors, **{name: value for name, value in named.items() if takes(name)})
    scores = bool(named.get("return_attention_scores"))
    if isinstance(outputs, (list, tuple)) is not scores:
        wanted = "(outputs, scores)" if scores else "one tensor"
        raise ValueError(
            f"`{slot}` must return {wanted} for return_attention_scores={scores}. "
            f"Received: {short_repr(outputs)} of {short_repr(layer)}."
        )
    stream = outputs[0] if scores else outputs
    check_shape(slot, stream.shape, tensors[0].shape)
    stream = ops.cast(stream, tensors[0].dtype)  # inner layers may have another policy
    return (stream, outputs[1]) if scores else stream


def build_by_call(layer: keras.layers.Layer, *shapes: Shape) -> None:
    """Builds a layer that has no `build` method by a call with symbolic tensors, as Keras does."""
    layer(*(keras.KerasTensor(shape, layer.compute_dtype) for shape in shapes))


def check_returns(slot: str, layer: keras.layers.Layer, *shapes: Shape) -> None:
    """Raises a `ValueError` unless a built layer maps tensors of `shapes` to a tensor of the first shape."""
    try:
        spec = layer.compute_output_spec(*(keras.KerasTensor(shape, layer.compute_dtype) for shape in shapes))
    except NotImplementedError:  # without a spec, `call_slot` checks what the layer returns
        return
    check_shape(slot, getattr(spec, "shape", None), shapes[0])


def check_shape(slot: str, returned: Shape | None, wanted: Shape) -> None:
    """Raises a `ValueError` if a layer returns a shape other than `wanted`. Only static sizes are compared."""
    returned, wanted = None if returned is None else tuple(returned), tuple(wanted)
    fits = (
        returned is not None
        and len(returned) == len(wanted)
        and all(None in sizes or sizes[0] == sizes[1] for sizes in zip(returned, wanted))
    )
    if not fits:
        raise ValueError(f"`{slot}` must return the shape of its inputs, {wanted}. Received: {returned}.")


def is_plain(layer: keras.layers.Layer, cls: type[keras.layers.Layer]) -> bool:
    """Returns whether a layer is a `cls` and overrides none of its entry points, so that `run` may be called directly.

    A layer created in a `keras.RematScope` recomputes in `__call__`, so the result is False.
    """
    plain = isinstance(layer, cls) and all(
        getattr(layer.__class__, method) is getattr(cls, method) for method in ("__call__", "call", "extend", "step")
    )
    return plain and getattr(layer, "_remat_mode", None) is None


def stepwise(name: str, layer: Stepwise) -> Stepwise:
    """Returns the layer in the slot `name`; raises a `ValueError` unless it can decode step by step."""
    methods = {method: callable(getattr(layer, method, None)) for method in ("init_state", "extend", "step")}
    if not (methods["init_state"] and (methods["extend"] or methods["step"])):
        raise ValueError(
            f"`{name}` must have `init_state` and `step` to decode step by step. Received: {short_repr(layer)}."
        )
    return layer


def run_slot(
    slot: str,
    layer: keras.layers.Layer,
    plain: type[keras.layers.Layer],
    tensors: Sequence[Tensor],
    state: State,
    chunk: NewPositions | None,
    named: CallArguments,
    optional: Collection[str] = ("training",),
) -> tuple[Tensor, Tensor | None, State]:
    """Runs the layer in a slot: by `run` if it is a layer of this library, else by `__call__`, `extend` or `step`.

    Args:
        slot: Name of the slot, for messages.
        layer: The layer.
        plain: The class whose `run` may be called directly (see `is_plain`).
        tensors: Its positional arguments; the first is `[B, T, D]`.
        state, chunk: The state and the `Chunk` of `extend`; None in a call.
        named: The other arguments of its call, by name.
        optional: As for `call_slot`.

    Returns:
        The outputs `[B, T, D]`, the scores or None, and the new state.
    """
    if is_plain(layer, plain):
        return layer.run(*tensors, state=state, chunk=chunk, **named)
    if chunk is not None:
        return _extend(slot, layer, tensors[0], state, chunk, named["return_attention_scores"])
    return *with_scores(call_slot(slot, layer, tensors, named, optional)), None


def _extend(
    name: str,
    layer: keras.layers.Layer,
    x: Tensor,
    state: State,
    chunk: NewPositions,
    return_attention_scores: bool,
) -> tuple[Tensor, Tensor | None, State]:
    """Reads a chunk with a custom layer: by its `extend`, or by its `step` if it has no `extend`.

    Returns:
        The outputs `[B, T, D]`, the scores or None, and the new state.
    """
    named = {"return_attention_scores": True} if return_attention_scores else {}  # the layer may lack this argument
    if callable(getattr(layer, "extend", None)):
        outputs, state = layer.extend(x, state, chunk.start, **chunk.counts, **named)
        return *with_scores(outputs), state
    if x.shape[1] != 1 or chunk.counts:
        raise ValueError(
            f"`{name}` must have `extend` to read several positions at once, for example a prompt. "
            f"Received: {short_repr(layer)}."
        )
    outputs, state = layer.step(x[:, 0], state, chunk.start, **named)
    outputs, scores = with_scores(outputs)
    return outputs[:, None], None if scores is None else scores[..., None, :], state


def joined(outputs: Tensor, scores: Tensor | None) -> Tensor | tuple[Tensor, Tensor]:
    """Returns the outputs, or a tuple of outputs and scores if the scores are not None."""
    return outputs if scores is None else (outputs, scores)


def with_scores(outputs: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor | None]:
    """Returns a tuple of outputs and scores, or of outputs and None: the inverse of `joined`."""
    return outputs if isinstance(outputs, tuple) else (outputs, None)
