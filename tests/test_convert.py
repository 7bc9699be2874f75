"""The same weights give the same outputs as Keras' and PyTorch's layers."""

import importlib.util

import keras
import numpy as np
import pytest

import keras_attn as ka
from keras_attn import convert

B, T, S, D, H, HIDDEN = 3, 5, 7, 22, 2, 17


@pytest.fixture(autouse=True)
def seeded_torch():
    """Keras seeds PyTorch only where it is the backend."""
    if importlib.util.find_spec("torch") is not None:
        importlib.import_module("torch").manual_seed(3)


@pytest.fixture
def arrays(rng):
    """Targets, memory, and padding masks of both."""
    shapes = ((B, T, D), (B, S, D))
    lengths = (np.array([5, 3, 1]), np.array([7, 2, 4]))
    tensors = [rng.normal(size=shape).astype("float32") for shape in shapes]
    return *tensors, *(np.arange(n) < length[:, None] for n, length in zip((T, S), lengths, strict=True))


@pytest.mark.parametrize("use_bias", [True, False])
def test_self_attention_equals_keras(arrays, use_bias):
    x, _, mask, _ = arrays
    theirs = keras.layers.MultiHeadAttention(H, D // H, use_bias=use_bias)
    ours = ka.MultiHeadSelfAttention(H, use_bias=use_bias, mask=ka.Causal())
    theirs(x, x), ours(x)
    for variable in theirs.weights:
        variable.assign(np.random.default_rng(1).normal(size=variable.shape))
    convert.from_keras(ours, theirs)
    wanted, wanted_scores = theirs(
        x, x, use_causal_mask=True, return_attention_scores=True, attention_mask=mask[:, None]
    )
    outputs, scores = ours(x, attention_mask=mask[:, None], return_attention_scores=True)
    np.testing.assert_allclose(outputs, wanted, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(scores, wanted_scores, atol=1e-5)


def test_encoder_decoder_attention_equals_keras(arrays):
    x, memory, _, memory_mask = arrays
    theirs, ours = keras.layers.MultiHeadAttention(H, 5), ka.EncoderDecoderAttention(H, head_size=5)
    memory = memory[..., :13]
    theirs(x, memory), ours(x, memory)
    convert.from_keras(ours, theirs)
    wanted = theirs(x, memory, attention_mask=memory_mask[:, None])
    np.testing.assert_allclose(ours(x, memory, memory_mask=memory_mask), wanted, atol=1e-5)


PRECISIONS = pytest.mark.parametrize(
    ("dtype", "atol"), [("float32", 1e-5), pytest.param("float64", 1e-7, marks=pytest.mark.tensorflow)]
)


def torch_state(module):
    """The module's weights, none of them at its initial value, and all the same in every run."""
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        generator = torch.Generator().manual_seed(3)
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(0.3 * noise)
    return {name: tensor.numpy() for name, tensor in module.eval().state_dict().items()}


@pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@PRECISIONS
def test_encoder_block_equals_torch(arrays, norm_first, activation, dtype, atol):
    torch = pytest.importorskip("torch")
    x, _, mask, _ = (array if array.dtype == bool else array.astype(dtype) for array in arrays)
    theirs = torch.nn.TransformerEncoderLayer(
        D, H, HIDDEN, activation=activation, batch_first=True, norm_first=norm_first
    ).to(getattr(torch, dtype))
    ours = ka.EncoderBlock(
        H,
        HIDDEN,
        residual=ka.PreNorm() if norm_first else ka.PostNorm(),
        feed_forward=ka.FeedForward(HIDDEN, activation=activation, dtype=dtype),
        dtype=dtype,
    )
    ours(x)
    convert.from_torch(ours, torch_state(theirs))
    wanted = theirs(torch.tensor(x), src_key_padding_mask=torch.tensor(~mask)).detach().numpy()
    np.testing.assert_allclose(ours(x, inputs_mask=mask)[mask], wanted[mask], atol=atol, rtol=atol)


@pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
@PRECISIONS
def test_decoder_block_equals_torch(arrays, norm_first, dtype, atol):
    torch = pytest.importorskip("torch")
    x, memory, mask, memory_mask = (array if array.dtype == bool else array.astype(dtype) for array in arrays)
    theirs = torch.nn.TransformerDecoderLayer(D, H, HIDDEN, batch_first=True, norm_first=norm_first).to(
        getattr(torch, dtype)
    )
    ours = ka.DecoderBlock(H, HIDDEN, residual=ka.PreNorm() if norm_first else ka.PostNorm(), dtype=dtype)
    ours(x, memory)
    convert.from_torch(ours, torch_state(theirs))
    wanted = theirs(
        torch.tensor(x),
        torch.tensor(memory),
        tgt_mask=torch.nn.Transformer.generate_square_subsequent_mask(T) < 0,
        tgt_key_padding_mask=torch.tensor(~mask),
        memory_key_padding_mask=torch.tensor(~memory_mask),
    )
    outputs = ours(x, memory, inputs_mask=mask, memory_mask=memory_mask)
    np.testing.assert_allclose(outputs[mask], wanted.detach().numpy()[mask], atol=atol, rtol=atol)


def test_stacks_equal_torch(arrays):
    torch = pytest.importorskip("torch")
    x, memory, _, _ = arrays
    layer = torch.nn.TransformerDecoderLayer(D, H, HIDDEN, batch_first=True, norm_first=True)
    theirs = torch.nn.TransformerDecoder(layer, 3, norm=torch.nn.LayerNorm(D))
    ours = ka.Decoder(3, ka.DecoderBlock(H, HIDDEN, residual=ka.PreNorm(), mask=None))
    ours(x, memory)
    convert.from_torch(ours, {f"decoder.{name}": array for name, array in torch_state(theirs).items()}, "decoder.")
    wanted = theirs(torch.tensor(x), torch.tensor(memory)).detach().numpy()
    np.testing.assert_allclose(ours(x, memory), wanted, atol=2e-5, rtol=1e-5)


def test_missing_and_left_over_weights_are_named(arrays):
    x, *_ = arrays
    ours = ka.MultiHeadSelfAttention(H)
    with pytest.raises(ValueError, match="`layer` must be a built MultiHeadSelfAttention"):
        convert.from_torch(ours, {})
    ours(x)
    state = {
        "in_proj_weight": np.zeros((3 * D, D)),
        "in_proj_bias": np.zeros(3 * D),
        "out_proj.weight": np.zeros((D, D)),
    }
    with pytest.raises(ValueError, match="'in_proj_weight'"):
        convert.from_torch(ours, {})
    state["out_proj.bias"] = np.zeros(D)
    with pytest.raises(ValueError, match=r"in addition: \['colour'\]"):
        convert.from_torch(ours, {**state, "colour": np.zeros(1)})
    with pytest.raises(ValueError, match="`layer` must be a built"):
        convert.from_keras(keras.layers.Dense(3), keras.layers.MultiHeadAttention(2, 2))


def test_a_module_of_another_kind_is_refused(built):
    torch = pytest.importorskip("torch")
    assert_refused(convert.from_torch, built["encoder"], torch.nn.Linear(D, D), "`state` must hold .* EncoderBlock")


@pytest.fixture(scope="module")
def built():
    """Our layers, built, which no test may change."""
    x, memory = np.zeros((1, T, D), "float32"), np.zeros((1, S, 13), "float32")
    layers = {"self": ka.MultiHeadSelfAttention(H), "memory": ka.EncoderDecoderAttention(H)}
    layers["self"](x), layers["memory"](x, memory)
    layers["encoder"], layers["decoder"] = ka.EncoderBlock(H, HIDDEN), ka.DecoderBlock(H, HIDDEN)
    layers["encoder"](x), layers["decoder"](x, np.zeros((1, S, D), "float32"))
    layers["stack"] = ka.Encoder(2, ka.EncoderBlock(H, HIDDEN, residual=ka.PreNorm()))
    layers["stack"](x)
    return layers


def assert_refused(convert_from, layer, source, message):
    """The source raises an error with `message`, and the layer is unchanged."""
    before = layer.get_weights()
    with pytest.raises(ValueError, match=message):
        convert_from(layer, source)
    for array, other in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(array, other)


def keras_attention(num_heads=H, key_dim=D // H, call=None, **options):
    theirs = keras.layers.MultiHeadAttention(num_heads, key_dim, **options)
    theirs.build(*(call or [(1, T, D)] * 2))  # not called: Keras under JAX cannot call all of them
    return theirs


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_heads": 1, "key_dim": 22}, "`source` must have num_heads=2, like `layer`. Received: num_heads=1"),
        ({"num_heads": 11, "key_dim": 2}, "num_heads=2, like `layer`. Received: num_heads=11"),
        ({"key_dim": 7}, "`source` must have key_dim=11, like `layer`. Received: key_dim=7"),
        ({"value_dim": 7}, "`source` must have value_dim=11, like `layer`. Received: value_dim=7"),
        ({"use_bias": False}, "`source` must have use_bias=True, like `layer`. Received: use_bias=False"),
        ({"output_shape": 7}, r"`source` must have output_shape=\(22,\), like `layer`. Received: output_shape=\(7,\)"),
        ({"attention_axes": 2, "call": [(1, 3, T, D)] * 2}, r"`source` must have attention_axes=\(1,\)"),
        ({"call": [(1, 3, T, D)] * 2}, r"`source` must have attention_axes=\(1,\), .*=\(1, 2\)"),
        (
            {"call": [(1, T, D), (1, S, 13)]},
            r"`source` must have kernels of query, key and value .* Received: .*\(13, ",
        ),
        ({"call": [(1, T, 13)] * 2, "output_shape": D}, "`source` must have kernels of query, key and value"),
        ({"dtype": "float16"}, "`source` must have variable_dtype='float32', like `layer`. .*='float16'"),
    ],
)
def test_what_differs_in_a_keras_layer_is_named(built, options, message):
    assert_refused(convert.from_keras, built["self"], keras_attention(**options), message)


def test_later_options_of_keras_are_checked(built):
    known = keras_attention().get_config()
    for name, value, message in (
        ("use_gate", True, "`source` must have use_gate=False, like `layer`. Received: use_gate=True"),
        ("sliding_window", 3, r"`layer` must have mask=Window\(3\), .* Received: layer.mask=None"),
    ):
        if name not in known:
            continue
        assert_refused(convert.from_keras, built["self"], keras_attention(**{name: value}), message)


def test_a_sliding_window_is_ours(arrays):
    x, *_ = arrays
    if "sliding_window" not in keras_attention().get_config():
        pytest.skip("this Keras has no sliding window")
    theirs, ours = keras_attention(sliding_window=3), ka.MultiHeadSelfAttention(H, mask=ka.Window(3))
    ours(x)
    convert.from_keras(ours, theirs)
    np.testing.assert_allclose(ours(x), theirs(x, x), atol=1e-5)


def test_other_keras_layers_are_named(built):
    for source in (keras.layers.MultiHeadAttention(H, D // H), keras.layers.Attention(), None):
        message = "`source` must be a built keras.layers.MultiHeadAttention or keras.layers.GroupQueryAttention"
        assert_refused(convert.from_keras, built["self"], source, message)
    with_lora = keras_attention()
    with_lora.query_dense.enable_lora(2)
    assert_refused(
        convert.from_keras, built["self"], with_lora, "`source` must have exactly the weights .* Received: .*lora"
    )


@pytest.mark.skipif(keras.config.backend() == "torch", reason="Keras quantises under PyTorch as elsewhere, but slowly")
def test_quantised_layers_are_named(built, arrays):
    x, *_ = arrays
    theirs = keras.Sequential([keras.Input((T, D)), keras.layers.Dense(D)])
    inputs = keras.Input((T, D))
    attention = keras.layers.MultiHeadAttention(H, D // H)
    theirs = keras.Model(inputs, attention(inputs, inputs))
    theirs.quantize("int8", filters=lambda layer: True)
    for part in (attention.query_dense, attention.output_dense):
        if part.dtype_policy.quantization_mode is None:
            part.quantize("int8")
    assert_refused(
        convert.from_keras, built["self"], attention, "`source` must have exactly the weights .* not quantised"
    )
    ours = ka.MultiHeadSelfAttention(H)
    ours(x)
    ours.in_projection.quantize("int8")
    assert_refused(convert.from_keras, ours, keras_attention(), "`layer` must not be quantised. Received: ")


def test_scores_and_positions_that_keras_lacks_are_named(arrays):
    x, *_ = arrays
    for option in ({"position": ka.Rotary()}, {"score": ka.DotProduct(softcap=3.0)}):
        ours = ka.MultiHeadSelfAttention(H, head_size=10, **option)
        ours(x)
        message = "`layer` must have the plain score and no position"
        assert_refused(convert.from_keras, ours, keras_attention(key_dim=10), message)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_queries_equal_keras(groups, rng):
    x = rng.normal(size=(B, T, 20)).astype("float32")
    theirs, ours = keras.layers.GroupQueryAttention(5, 4, groups), ka.MultiHeadSelfAttention(4, num_kv_heads=groups)
    theirs(x, x), ours(x)
    for variable in theirs.weights:
        variable.assign(rng.normal(size=variable.shape))
    convert.from_keras(ours, theirs)
    np.testing.assert_allclose(ours(x), theirs(x, x), atol=2e-5, rtol=1e-5)
    other = ka.MultiHeadSelfAttention(4, num_kv_heads=4 // groups if groups != 2 else 1)
    other(x)
    assert_refused(convert.from_keras, other, theirs, "`source` must have num_key_value_heads=")


def test_a_failure_half_way_changes_nothing(built, monkeypatch):
    ours, theirs = built["self"], keras_attention()

    def fail(arrays):
        raise KeyboardInterrupt

    before = ours.get_weights()
    monkeypatch.setattr(ours.out_projection, "set_weights", fail)
    with pytest.raises(KeyboardInterrupt):
        convert.from_keras(ours, theirs)
    for array, other in zip(before, ours.get_weights(), strict=True):
        np.testing.assert_array_equal(array, other)


def torch_block(kind="Encoder", **options):
    torch = pytest.importorskip("torch")
    options = {"num_heads": H, "hidden": HIDDEN, **options}
    return getattr(torch.nn, f"Transformer{kind}Layer")(D, options.pop("num_heads"), options.pop("hidden"), **options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_heads": 11}, "`state` must have num_heads=2, like `layer`. Received: num_heads=11"),
        ({"activation": "gelu"}, "`state` must have the activation relu of `layer`. Received: gelu"),
        ({"layer_norm_eps": 1e-3}, r"`state` must have norm1.eps=1e-05, like `layer`. Received: norm1.eps=0.001"),
        ({"norm_first": True}, r"`layer` must have residual=PreNorm\(\), .* Received: layer.residual=PostNorm"),
        ({"hidden": 19}, r"`state` must have weights of the shapes .* for .*hidden_projection. Received: \[\(22, 19\)"),
        ({"bias": False}, "`state` must have use_bias=True, like `layer`. Received: use_bias=False"),
    ],
)
@pytest.mark.parametrize("kind", ["Encoder", "Decoder"])
def test_what_differs_in_a_torch_module_is_named(built, kind, options, message):
    assert_refused(convert.from_torch, built[kind.lower()], torch_block(kind, **options), message)


def test_torch_stacks_and_attention_are_checked(built):
    torch = pytest.importorskip("torch")
    norm = torch.nn.LayerNorm(D, eps=1e-3)
    theirs = torch.nn.TransformerEncoder(torch_block(norm_first=True), 2, norm=norm, enable_nested_tensor=False)
    assert_refused(convert.from_torch, built["stack"], theirs, "`state` must have norm.eps=1e-05")
    theirs = torch.nn.TransformerEncoder(torch_block(norm_first=True), 3, enable_nested_tensor=False)
    assert_refused(convert.from_torch, built["stack"], theirs, "`state` must have num_layers=2, .* num_layers=3")
    theirs = torch.nn.TransformerEncoder(torch_block(norm_first=True), 2, enable_nested_tensor=False)
    assert_refused(convert.from_torch, built["stack"], theirs, "`state` must hold 'norm.weight'")
    theirs = torch.nn.MultiheadAttention(D, H, add_zero_attn=True)
    assert_refused(convert.from_torch, built["self"], theirs, "`state` must have add_zero_attn=False")
    theirs = torch.nn.MultiheadAttention(D, H, add_bias_kv=True)
    assert_refused(convert.from_torch, built["self"], theirs, r"in addition: \['bias_k', 'bias_v'\]")
    state = {name: np.zeros(tensor.shape, "int8") for name, tensor in theirs.state_dict().items()}
    assert_refused(convert.from_torch, built["self"], state, "`state` must hold floats, not quantised weights")


def test_modules_equal_ours(arrays):
    torch = pytest.importorskip("torch")
    x, memory, *_ = arrays
    memory = memory[..., :13]
    theirs = torch.nn.MultiheadAttention(D, H, kdim=13, vdim=13, batch_first=True)
    torch_state(theirs)
    ours = ka.EncoderDecoderAttention(H)
    ours(x, memory)
    convert.from_torch(ours, torch.nn.ModuleDict({"attend": theirs}), "attend.")
    wanted, _ = theirs(torch.tensor(x), torch.tensor(memory), torch.tensor(memory))
    np.testing.assert_allclose(ours(x, memory), wanted.detach().numpy(), atol=1e-5)
    half = torch_block(activation=torch.nn.GELU(), batch_first=True).bfloat16()
    ours = ka.EncoderBlock(H, HIDDEN, feed_forward=ka.FeedForward(HIDDEN, activation="gelu"))
    ours(x)
    convert.from_torch(ours, half)
    np.testing.assert_allclose(ours(x), half.float().eval()(torch.tensor(x)).detach().numpy(), atol=1e-5)


def test_other_parts_of_blocks_are_named(arrays):
    x, *_ = arrays
    ours = ka.EncoderBlock(H, HIDDEN, feed_forward=ka.GatedFeedForward(HIDDEN))
    ours(x)
    state = torch_state(torch_block())
    assert_refused(convert.from_torch, ours, state, "`layer` must have a FeedForward as `feed_forward`")
    for options in ({"num_kv_heads": 1}, {"head_size": 3}):
        ours = ka.MultiHeadSelfAttention(H, **options)
        ours(x)
        part = {name.removeprefix("self_attn."): each for name, each in state.items() if "self_attn" in name}
        assert_refused(convert.from_torch, ours, part, "`state` must have kernels of query, key and value")
    ours = ka.EncoderBlock(H, HIDDEN, residual=ka.PostNorm(ka.RMSNorm()))
    ours(x)
    assert_refused(convert.from_torch, ours, state, "`state` must have weights of the shapes .* for .*norm_0. Received")
