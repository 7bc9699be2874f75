"""Stacks: clones, final norms, different blocks, partly quantised blocks, bad input."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from keras_attn import masks
from keras_attn.base.slot_layers import is_plain

B, T, S, D, H, HIDDEN = 3, 5, 7, 12, 2, 17


@pytest.fixture
def x(rng):
    return rng.normal(size=(B, T, D)).astype("float32")


@pytest.mark.parametrize("residual", [ka.PostNorm(), ka.PreNorm()], ids=["post", "pre"])
def test_a_stack_is_its_blocks_in_turn(residual, x):
    stack = ka.Encoder(3, ka.EncoderBlock(H, HIDDEN, residual=residual))
    outputs, scores = stack(x, return_attention_scores=True)
    for index, block in enumerate(stack.blocks):
        x, block_scores = block(x, return_attention_scores=True)
        np.testing.assert_allclose(scores[:, index], block_scores, atol=1e-6)
    assert (stack.final_norm is not None) == residual.final_norm
    np.testing.assert_allclose(outputs, x if stack.final_norm is None else stack.final_norm(x), atol=1e-6)


def test_the_papers_stack_by_default():
    for stack in (ka.Encoder(), ka.Decoder()):
        block = stack.block
        assert (stack.num_layers, block.num_heads, block.hidden_size, block.dropout) == (6, 8, 2048, 0.1)
        assert block.residual == ka.PostNorm()
    assert ka.Decoder().block.mask == ka.Causal()


def test_blocks_start_different(x):
    stack = ka.Encoder(2, ka.EncoderBlock(H, HIDDEN))
    stack(x)
    one, two = (np.array(block.attention.in_projection.kernel) for block in stack.blocks)
    assert np.all(one != two)


def test_different_blocks_in_one_stack(x, tmp_path):
    blocks = [ka.EncoderBlock(H, HIDDEN, mask=mask) for mask in (ka.Window(2), None, ka.Causal())]
    inputs = keras.Input((None, D))
    model = keras.Model(inputs, ka.Encoder(3, blocks)(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [block.mask for block in loaded.layers[-1].blocks] == [ka.Window(2), None, ka.Causal()]
    np.testing.assert_array_equal(loaded(x), model(x))


@pytest.mark.parametrize("filters", ["block_1", "feed_forward"])
def test_partly_quantised_stacks_reload(filters, x, tmp_path):
    inputs = keras.Input((None, D))
    stack = ka.Encoder(2, ka.EncoderBlock(H, HIDDEN))
    model = keras.Model(inputs, stack(inputs))
    projections = [each for each in stack._flatten_layers() if isinstance(each, keras.layers.Dense)]
    model.quantize("int8", filters=lambda layer: layer in projections and filters in layer.path)
    modes = [each.dtype_policy.quantization_mode for each in projections]
    assert set(modes) == {"int8", None}
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(x), model(x))


@pytest.mark.tensorflow  # gradient tape of TensorFlow
@pytest.mark.parametrize("kernel", ["dense", "blockwise"])
@pytest.mark.parametrize(
    "position", [ka.Rotary, ka.Alibi, lambda: ka.RelativeBias(8, 20)], ids=["rotary", "alibi", "t5"]
)
@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_packed_stacks_equal_unpacked_ones_and_so_do_their_gradients(kind, position, kernel, rng):
    """Two pairs in one row, behind them padding, against the two alone: outputs, and gradients by every weight."""
    import tensorflow as tf

    attention = ka.MultiHeadSelfAttention(H, mask=ka.Causal(), position=position(), kernel=kernel)
    if kind == "encoder":
        stack = ka.Encoder(2, ka.EncoderBlock(H, HIDDEN, dropout=0, attention=attention))
    else:
        reading = ka.EncoderDecoderAttention(H, kernel=kernel)
        stack = ka.Decoder(2, ka.DecoderBlock(H, HIDDEN, 0, attention=attention, memory_attention=reading))
    pairs = [[rng.normal(size=(1, n, D)).astype("float32") for n in lengths] for lengths in ((3, 2), (2, 4))]
    ids = [np.array([[1, 1, 1, 2, 2, 0]]), np.array([[1, 1, 2, 2, 2, 2, 0]])]
    positions = np.array([[0, 1, 2, 0, 1, 0]])
    number = 1 if kind == "encoder" else 2

    def gradients(compute):
        with tf.GradientTape() as tape:
            outputs = compute()
            loss = tf.reduce_sum(tf.sin(3 * outputs))
        return outputs, [tf.convert_to_tensor(each) for each in tape.gradient(loss, stack.trainable_variables)]

    def packed():
        garbage = np.full((1, 1, D), np.nan, "float32")
        rows = [np.concatenate([*parts, garbage], axis=1) for parts in zip(*pairs, strict=True)]
        extra = {} if kind == "encoder" else {"memory_segment_ids": ids[1]}
        return stack(*rows[:number], segment_ids=ids[0], positions=positions, **extra)[:, :5]

    def unpacked():
        return tf.concat([stack(*pair[:number]) for pair in pairs], axis=1)

    for one, two in zip(tf.nest.flatten(gradients(packed)), tf.nest.flatten(gradients(unpacked)), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5, rtol=1e-5)


def shared(kind, position, **named):
    """A causal stack of two blocks that share a position."""
    if kind == "encoder":
        return ka.Encoder(2, ka.EncoderBlock(H, HIDDEN, 0, mask=ka.Causal(), **named), position=position, **named)
    return ka.Decoder(2, ka.DecoderBlock(H, HIDDEN, 0, **named), position=position, **named)


def randomized_table(stack, rng):
    table = rng.normal(size=stack.position.table.shape).astype("float32")
    stack.position.table.assign(table)
    return table


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
@pytest.mark.parametrize("kernel", ["dense", "blockwise"])
def test_blocks_share_the_table_of_a_stack(kind, kernel, x, rng):
    """The stack with one table equals one whose blocks have a copy each, and has one table less."""
    tensors = [x] if kind == "encoder" else [x, x]
    attention = {"mask": ka.Causal(), "kernel": kernel}
    block, stack = {"encoder": (ka.EncoderBlock, ka.Encoder), "decoder": (ka.DecoderBlock, ka.Decoder)}[kind]
    one = stack(2, block(H, HIDDEN, attention=ka.MultiHeadSelfAttention(H, **attention)), ka.RelativeBias(8, 20))
    own = ka.MultiHeadSelfAttention(H, position=ka.RelativeBias(8, 20), **attention)
    each = stack(2, block(H, HIDDEN, attention=own))
    one(*tensors), each(*tensors)
    table = randomized_table(one, rng)
    for theirs, ours in zip(each.blocks, one.blocks, strict=True):
        theirs.attention.position.table.assign(table)
        theirs.set_weights(merged(theirs, ours))
    np.testing.assert_allclose(one(*tensors), each(*tensors), atol=1e-5)
    assert each.count_params() - one.count_params() == table.size
    assert sum(weight is one.position.table for weight in one.weights) == 1
    assert [weight.name for weight in one.weights].count("table") == 1


def merged(theirs, ours):
    """The weights of `ours` in the order of `theirs`, which also has a table."""
    rest = iter(ours.get_weights())
    return [
        value if weight.name == "table" else next(rest) for weight, value in zip(theirs.weights, theirs.get_weights())
    ]


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_a_shared_position_reaches_every_door(kind, x, rng):
    stack = shared(kind, ka.RelativeBias(8, 20, bidirectional=False))
    tensors = [x] if kind == "encoder" else [x, x]
    stack(*tensors)
    before = ops.convert_to_numpy(stack(*tensors))
    randomized_table(stack, rng)
    whole = ops.convert_to_numpy(stack(*tensors))
    assert np.abs(whole - before).max() > 1e-3
    if kind == "encoder":
        outputs, state = stack.prefill(x[:, :2], None, T)
        np.testing.assert_allclose(outputs, whole[:, :2], atol=1e-5)
    else:
        _, state = stack.extend(x[:, :2], stack.init_state(x, max_length=T), 0)
    outputs, state = stack.extend(x[:, 2:4], state, 2)
    np.testing.assert_allclose(outputs, whole[:, 2:4], atol=1e-5)
    outputs, _ = stack.step(x[:, 4], state, 4)
    np.testing.assert_allclose(outputs, whole[:, 4], atol=1e-5)
    # Positions of a packed row restart: the second half equals the stack alone on it.
    ids, positions = np.array([[1, 1, 1, 2, 2]] * B), np.array([[0, 1, 2, 0, 1]] * B)
    extra = {} if kind == "encoder" else {"memory_segment_ids": ids}
    packed = stack(*tensors, segment_ids=ids, positions=positions, **extra)
    np.testing.assert_allclose(packed[:, 3:], stack(*(each[:, 3:] for each in tensors)), atol=1e-5)


@pytest.mark.parametrize("quantized", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["float", "int8"])
@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_a_shared_position_is_saved_once_and_reloaded(kind, quantized, x, rng, tmp_path):
    stack = shared(kind, ka.RelativeBias(8, 20))
    inputs = [keras.Input((None, D)) for _ in range(1 if kind == "encoder" else 2)]
    model = keras.Model(inputs, stack(*inputs))
    tensors = [x] if kind == "encoder" else [x, x]
    randomized_table(stack, rng)
    if quantized:
        model.quantize("int8", filters=lambda layer: isinstance(layer, keras.layers.Dense))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(tensors), model(tensors))
    again = loaded.layers[-1]
    assert len(again.weights) == len(stack.weights) and again.position.num_buckets == 8
    assert all(block.position is None for block in again.blocks)
    clone = keras.models.clone_model(model)
    assert clone.layers[-1].position is not stack.position
    assert all(block.attention.used_position is clone.layers[-1].position for block in clone.layers[-1].blocks)


@pytest.mark.trains
def test_the_gradient_of_a_shared_table_is_the_sum(x, rng):
    """One training step moves the table by the sum of what it moves two copies, one per block."""
    inputs = keras.Input((None, D))
    target = rng.normal(size=x.shape).astype("float32")

    one = shared("encoder", ka.RelativeBias(8, 20))
    own = ka.Encoder(2, ka.EncoderBlock(H, HIDDEN, 0, mask=ka.Causal(), position=ka.RelativeBias(8, 20)))
    models = [keras.Model(inputs, stack(inputs)) for stack in (one, own)]
    table = randomized_table(one, rng)
    for theirs, ours in zip(own.blocks, one.blocks, strict=True):
        theirs.attention.position.table.assign(table)
        theirs.set_weights(merged(theirs, ours))
    for model in models:
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit(x, target, batch_size=B, verbose=0)
    moved = ops.convert_to_numpy(one.position.table) - table
    copies = [ops.convert_to_numpy(block.attention.position.table) - table for block in own.blocks]
    assert all(np.abs(each).max() > 1e-4 for each in copies)
    np.testing.assert_allclose(moved, sum(copies), atol=1e-6)


@pytest.mark.trains
def test_lora_leaves_a_shared_table_trainable(x, tmp_path):
    stack = shared("encoder", ka.RelativeBias(8, 20))
    inputs = keras.Input((None, D))
    model = keras.Model(inputs, stack(inputs))
    for block in stack.blocks:
        block.attention.in_projection.enable_lora(2)
    assert any(weight is stack.position.table for weight in model.trainable_weights)
    model.compile("sgd", "mse")
    model.fit(x, x, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)


def test_rotary_may_be_shared(x):
    one, each = shared("encoder", ka.Rotary()), ka.Encoder(2, ka.EncoderBlock(H, HIDDEN, 0, ka.Causal(), ka.Rotary()))
    one(x), each(x)
    each.set_weights(one.get_weights())
    np.testing.assert_allclose(one(x), each(x), atol=1e-6)
    assert ka.Encoder.from_config(one.get_config()).position == ka.Rotary()


def test_no_unbuilt_prototype_is_kept(x):
    stack = ka.Encoder(2, ka.EncoderBlock(H, HIDDEN))
    stack(x)
    assert all(layer.built for layer in stack._flatten_layers() if not isinstance(layer, keras.layers.Dropout))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ka.Encoder(0), "`num_layers` must be an integer of at least 1"),
        (lambda: ka.Encoder(2, ka.DecoderBlock(H, HIDDEN)), "`block` must be a EncoderBlock or a list of them"),
        (lambda: ka.Decoder(2, "block"), "`block` must be a DecoderBlock .* Received: block='block'"),
        (lambda: ka.Encoder(3, [ka.EncoderBlock(H, HIDDEN)] * 2), "must hold num_layers=3 blocks .* Received: 2"),
        (lambda: ka.Encoder(2, ka.EncoderBlock(H, HIDDEN, dtype="mixed_bfloat16")), "must have the dtype policy"),
        (lambda: ka.Encoder(2, [ka.EncoderBlock(n, HIDDEN) for n in (1, 2)]), r"equal `num_heads`. Received: \[1, 2\]"),
        (lambda: ka.Encoder(2, ka.EncoderBlock(H, HIDDEN), dtype="float64"), "'float64': pass the same `dtype`"),
        (lambda: ka.Encoder(2, position="rotary"), "`position` must be a HeadPosition of keras_attn or None"),
        (
            lambda: ka.Encoder(2, ka.EncoderBlock(H, HIDDEN, position=ka.Alibi()), position=ka.Alibi()),
            "without a position if the stack has a `position`. Received: .*position=Alibi",
        ),
        (
            lambda: ka.Encoder(2, ka.EncoderBlock(H, HIDDEN, attention=keras.layers.Dense(D)), position=ka.Alibi()),
            "`block` must have a MultiHeadSelfAttention .* Received: attention=<Dense",
        ),
        (
            lambda: ka.Encoder(2, ka.EncoderBlock(H, HIDDEN), ka.RelativeBias(dtype="mixed_bfloat16")),
            "`position` must have the dtype policy",
        ),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_built_block_is_refused_because_its_weights_would_be_lost(x):
    block = ka.EncoderBlock(H, HIDDEN)
    block(x)
    with pytest.raises(ValueError, match="`block` must not be built: a stack clones it"):
        ka.Encoder(2, block)


def test_shapes_that_do_not_fit_are_named(x):
    with pytest.raises(ValueError, match="`memory` must have shape .* with B=3"):
        ka.Decoder(2, ka.DecoderBlock(H, HIDDEN))(x, x[:2])
    with pytest.raises(ValueError, match="`attention_mask` must broadcast"):
        ka.Encoder(2, ka.EncoderBlock(H, HIDDEN))(x, attention_mask=np.ones((T, S), bool))


@pytest.mark.parametrize(("side", "wanted"), [("encoder", 2), ("decoder", 3)])
def test_padding_is_not_hidden_once_per_sublayer(side, wanted, monkeypatch):
    """Once per tensor that comes in, and once more before the last of the blocks, for what comes out in padding."""
    hidden, hide = [], masks.hide

    def counting_hide(tensor, mask):
        hidden.extend([] if mask is None else [tensor.shape])
        return hide(tensor, mask)

    x, memory = np.full((2, 5, 8), np.nan, "float32"), np.full((2, 7, 6), np.nan, "float32")
    x[:, :3], memory[:, :4] = 1, 1
    named = {"mask": np.arange(5) < np.array([[3], [3]])}
    if side == "decoder":
        named = {"inputs_mask": named["mask"], "memory_mask": np.arange(7) < np.array([[4], [4]])}
    blocks = {"encoder": ka.EncoderBlock, "decoder": ka.DecoderBlock}
    layer = {"encoder": ka.Encoder, "decoder": ka.Decoder}[side](3, blocks[side](2, 11))
    tensors = [x] if side == "encoder" else [x, memory]
    layer(*tensors, **named)
    monkeypatch.setattr(masks, "hide", counting_hide)
    assert np.isfinite(ops.convert_to_numpy(layer(*tensors, **named))).all()
    assert len(hidden) == wanted


def test_doors_of_subclasses_are_used_inside_blocks_and_stacks():
    class Doubled(ka.MultiHeadSelfAttention):
        def call(self, inputs, **named):
            return 2 * super().call(inputs, **named)

    class Blanked(ka.EncoderBlock):
        def call(self, inputs, **named):
            return 0 * super().call(inputs, **named)

    class Adding(ka.PostNorm):
        def after(self, x, y, norm):
            return y

    x = np.random.default_rng(3).normal(size=(2, 5, 8)).astype("float32")
    block = ka.EncoderBlock(2, 11, attention=Doubled(2), residual=Adding())
    outputs = block(x)
    plain = ka.MultiHeadSelfAttention(2)
    plain.build(x.shape)
    plain.set_weights(block.attention.get_weights())
    np.testing.assert_allclose(outputs, block.feed_forward(2 * plain(x)), atol=1e-5)
    assert not np.any(ops.convert_to_numpy(ka.Encoder(2, Blanked(2, 11))(x)))


def test_a_layer_made_in_a_remat_scope_is_recomputed_inside_a_stack():
    with keras.RematScope(mode="full"):
        layer = ka.Encoder(2, ka.EncoderBlock(2, 11))
    assert not any(is_plain(block, ka.EncoderBlock) for block in layer.blocks)
    assert all(is_plain(block, ka.EncoderBlock) for block in ka.Encoder(2, ka.EncoderBlock(2, 11)).blocks)
