"""Layers that users put into the slots of other layers: what their `call` takes, how to build and call them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

import keras
from keras import ops

from keras_attn.base.tensors import short_repr
from keras_attn.base.types import ArrayLike, CallArguments, Shape, State, Tensor

Stepwise = TypeVar("Stepwise", bound=keras.layers.Layer)
PADDING = {name: " (there is padding, which it would attend to)" for name in ("mask", "memory_mask")}


class NewPositions(Protocol):
    """The attributes of a `Chunk` that `run_slot` passes to layers of the user."""

    @property
    def start(self) -> ArrayLike: ...

    @property
    def counts(self) -> CallArguments: ...


def check_call(slot: str, layer: keras.layers.Layer, *names: str) -> None:
    """Raises a `ValueError` unless `layer.call` takes the tensors `names` and requires no other argument."""
    signature = inspect.signature(layer.call)
    try:
        bound = signature.bind(*names)
    except TypeError:
        bound = None
    if bound is None or bound.arguments.keys() & {"mask", "training"}:  # where a second tensor would go
        raise ValueError(
            f"`{slot}` must be a layer whose `call` takes ({', '.join(names)}) and needs no other argument. Wrap it "
            f"in a layer with such a `call`. Received: {short_repr(layer)}, whose `call` takes {signature}."
        )


def accepted(layer: keras.layers.Layer) -> Callable[[str], bool]:
    """Returns a function that returns whether the layer's `call` takes an argument of a given name."""
    parameters = inspect.signature(layer.call).parameters.values()
    names = {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    # A functional model passes arguments that its `call` does not name to each of its layers.
    everything = not isinstance(layer, keras.Model) and any(each.kind == each.VAR_KEYWORD for each in parameters)
    return lambda name: everything or name in names


def check_given(slot: str, layer: keras.layers.Layer, named: CallArguments) -> None:
    """Raises a `ValueError` for an argument that is given and that the `call` of the slot's layer does not take."""
    given = [name for name, value in named.items() if value is not None and value is not False]
    if not given:
        return
    takes = accepted(layer)
    for name in given:
        if not takes(name):
            raise ValueError(
                f"`{slot}` must be a layer whose `call` takes `{name}`, which is given{PADDING.get(name, '')}. "
                f"Received: {short_repr(layer)}, whose `call` takes {inspect.signature(layer.call)}."
            )


def call_slot(
    slot: str,
    layer: keras.layers.Layer,
    tensors: Sequence[Tensor],
    named: CallArguments,
    optional: Collection[str] = ("training",),
) -> Tensor | tuple[Tensor, Tensor]:
    """Calls a layer that fills a slot with those of the arguments that its `call` takes.

    Args:
        slot: Name of the slot, for messages.
        layer: The layer.
        tensors: Its positional arguments.
        named: Its keyword arguments by name. Those that are None or False, and those of
            `optional`, are left out where the `call` does not take them.
        optional: Names of arguments that the layer may lack.

    Returns:
        What the layer returns: a tensor, or (tensor, scores) where scores are asked for.

    Raises:
        ValueError: For an argument that the layer does not take, or scores that it does not return.
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
    stream = ops.cast(stream, tensors[0].dtype)  # layers inside may have a policy of their own
    return (stream, outputs[1]) if scores else stream


def build_by_call(layer: keras.layers.Layer, *shapes: Shape) -> None:
    """Builds a layer without a `build` of its own by a call with symbolic tensors, as Keras does."""
    layer(*(keras.KerasTensor(shape, layer.compute_dtype) for shape in shapes))


def check_returns(slot: str, layer: keras.layers.Layer, *shapes: Shape) -> None:
    """Raises a `ValueError` unless a built layer, given tensors of `shapes`, returns one of the first shape."""
    try:
        spec = layer.compute_output_spec(*(keras.KerasTensor(shape, layer.compute_dtype) for shape in shapes))
    except NotImplementedError:  # without a spec, `call_slot` checks what the layer returns
        return
    check_shape(slot, getattr(spec, "shape", None), shapes[0])


def check_shape(slot: str, returned: Shape | None, wanted: Shape) -> None:
    """Raises a `ValueError` if a layer returns another shape than `wanted`, as far as both are static."""
    returned, wanted = None if returned is None else tuple(returned), tuple(wanted)
    fits = (
        returned is not None
        and len(returned) == len(wanted)
        and all(None in sizes or sizes[0] == sizes[1] for sizes in zip(returned, wanted))
    )
    if not fits:
        raise ValueError(f"`{slot}` must return the shape of its inputs, {wanted}. Received: {returned}.")


def is_plain(layer: keras.layers.Layer, cls: type[keras.layers.Layer]) -> bool:
    """Whether a layer is a `cls` without entry points of its own, so that `run` may be called directly.

    A layer made in a `keras.RematScope` recomputes in `__call__`, so it does not count.
    """
    plain = isinstance(layer, cls) and all(
        getattr(layer.__class__, method) is getattr(cls, method) for method in ("__call__", "call", "extend", "step")
    )
    return plain and getattr(layer, "_remat_mode", None) is None


def stepwise(name: str, layer: Stepwise) -> Stepwise:
    """Returns a layer given for the slot `name` if it can decode step by step, else raises a `ValueError`."""
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
    """Runs a layer that fills a slot: by `run` if it is one of ours, else by `__call__`, `extend` or `step`.

    Args:
        slot: Name of the slot, for messages.
        layer: The layer.
        plain: The class whose `run` may be called directly (see `is_plain`).
        tensors: Its positional arguments; the first is `[B, T, D]`.
        state, chunk: The state and the `Chunk` of an extension; None in a call.
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
    """Reads a chunk with a layer of the user's own: by its `extend`, or by its `step` if it has no `extend`.

    Returns:
        The outputs `[B, T, D]`, the scores or None, and the new state.
    """
    named = {"return_attention_scores": True} if return_attention_scores else {}  # which it may lack
    if callable(getattr(layer, "extend", None)):
        outputs, state = layer.extend(x, state, chunk.start, **chunk.counts, **named)
        return *with_scores(outputs), state
    if x.shape[1] != 1 or chunk.counts:
        raise ValueError(
            f"`{name}` must have `extend` to read several positions at once, as a prompt's. "
            f"Received: {short_repr(layer)}."
        )
    outputs, state = layer.step(x[:, 0], state, chunk.start, **named)
    outputs, scores = with_scores(outputs)
    return outputs[:, None], None if scores is None else scores[..., None, :], state


def joined(outputs: Tensor, scores: Tensor | None) -> Tensor | tuple[Tensor, Tensor]:
    """Returns the outputs, or a tuple of outputs and scores where there are scores."""
    return outputs if scores is None else (outputs, scores)


def with_scores(outputs: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor | None]:
    """Returns outputs and scores, None where there are none: the inverse of `joined`."""
    return outputs if isinstance(outputs, tuple) else (outputs, None)
