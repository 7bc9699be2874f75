"""Layers that users put into the slots of other layers: what their `call` takes, how to build and call them."""

import inspect

import keras
from keras import ops

from keras_attn.base.tensors import short_repr

PADDING = {name: " (there is padding, which it would attend to)" for name in ("mask", "memory_mask")}


def check_call(slot, layer, *names):
    """Raises a `ValueError` unless `layer.call` takes the tensors `names`, and wants nothing else."""
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


def accepted(layer):
    """Returns a function that says whether the layer's `call` takes an argument of a name."""
    parameters = inspect.signature(layer.call).parameters.values()
    names = {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    # A functional model hands what it does not name on to every layer in it.
    everything = not isinstance(layer, keras.Model) and any(each.kind == each.VAR_KEYWORD for each in parameters)
    return lambda name: everything or name in names


def check_given(slot, layer, named):
    """Raises a `ValueError` for an argument that is given and that the `call` of the slot's layer does not take."""
    given = [name for name, value in named.items() if value is not None and value is not False]
    takes = accepted(layer) if given else None
    for name in given:
        if not takes(name):
            raise ValueError(
                f"`{slot}` must be a layer whose `call` takes `{name}`, which is given{PADDING.get(name, '')}. "
                f"Received: {short_repr(layer)}, whose `call` takes {inspect.signature(layer.call)}."
            )


def call_slot(slot, layer, tensors, named, optional=("training",)):
    """Calls a layer that fills a slot with those of the arguments that its `call` takes.

    Args:
        slot: Name of the slot, for messages.
        layer: The layer.
        tensors: Its positional arguments.
        named: Its keyword arguments by name. Those that are None or False, and those of
            `optional`, are left out where the `call` does not take them.
        optional: Names of arguments that a layer need not know.

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


def build_by_call(layer, *shapes):
    """Builds a layer without a `build` of its own by a call with symbolic tensors, as Keras does."""
    layer(*(keras.KerasTensor(shape, layer.compute_dtype) for shape in shapes))


def check_returns(slot, layer, *shapes):
    """Raises a `ValueError` unless a built layer returns tensors of the first of `shapes`, those of its tensors."""
    try:
        spec = layer.compute_output_spec(*(keras.KerasTensor(shape, layer.compute_dtype) for shape in shapes))
    except NotImplementedError:  # it cannot tell; what it returns is checked at the call
        return
    check_shape(slot, getattr(spec, "shape", None), shapes[0])


def check_shape(slot, returned, wanted):
    """Raises a `ValueError` if a layer returns another shape than `wanted`, as far as both are static."""
    returned, wanted = None if returned is None else tuple(returned), tuple(wanted)
    fits = returned is not None and len(returned) == len(wanted)
    if not fits or any(None not in sizes and sizes[0] != sizes[1] for sizes in zip(returned, wanted)):
        raise ValueError(f"`{slot}` must return the shape of its inputs, {wanted}. Received: {returned}.")
