"""Generation by the recipes: the same texts and scores compiled or not, under XLA, in a SavedModel, quantised."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from keras_attn import cache, decoding, models

BACKEND = keras.config.backend()
SOURCE = np.array([[5, 6, 7, 9, 2], [8, 2, 0, 0, 0], [9, 9, 2, 0, 0], [0, 0, 0, 0, 0]])
SIZES = {"num_layers": 2, "size": 16, "num_heads": 2, "hidden_size": 32}
L = 7
only_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="graphs and SavedModel of TensorFlow")


def transformer(**named):
    return models.Transformer(20, 11, **SIZES, **named)


def causal(**named):
    return models.CausalTransformer(20, **SIZES, **named)


MAKERS = {
    "transformer": transformer,
    "transformer-rotary": lambda: transformer(position=ka.Rotary(), residual=ka.PreNorm()),
    "rnn": lambda: models.RNNSeq2Seq(20, 11, size=8),
    "causal": causal,
    "causal-window": lambda: causal(mask=ka.Causal() & ka.Window(3), position=ka.RelativeBias(8, 5)),
    "causal-learned": lambda: causal(position=ka.Learned(40), residual=ka.PostNorm()),
}
STRATEGIES = {
    "greedy": decoding.Greedy(),
    "sample": decoding.Sample(0.9, top_k=8, top_p=0.95, seed=4),
    "beam": decoding.Beam(3, 0.6, num_return_sequences=2),
}
# Other backends compile for seconds each; what differs there is the loop, not the recipe.
NAMES = MAKERS if BACKEND == "tensorflow" else ["transformer-rotary", "rnn", "causal-window"]
each_recipe = pytest.mark.parametrize("name", NAMES)
each_strategy = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
made = {}


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def recipe(name):
    """The recipe's model, made once, with weights large enough for texts of several lengths."""
    if name not in made:
        keras.utils.set_random_seed(3)
        model = MAKERS[name]()
        model({"source": SOURCE, "target": SOURCE % 11} if "causal" not in name else {"target": SOURCE})
        head = model.get_layer("projection")
        head.kernel.assign(4 * numpy(head.kernel))
        made[name] = model
    return made[name]


def whole_logits(model, name, row, text):
    """Logits `[T, V]` of the tokens of a text, by a whole call."""
    source = SOURCE[row : row + 1]
    if "causal" not in name:
        return numpy(model({"source": source, "target": np.array([[1, *text[:-1]]])}))[0]
    prompt = [token for token in SOURCE[row] if token] or [1]
    return numpy(model({"target": np.array([[*prompt, *text[:-1]]])}))[0, len(prompt) - 1 :]


@each_recipe
@each_strategy
def test_scores_are_those_of_the_whole_call(name, strategy):
    """Each returned text, read by the model as in training, has the score that the steps gave it."""
    model = recipe(name)
    found = model.generate(SOURCE, strategy, max_length=L)
    tokens, lengths, scores = map(numpy, found)
    assert tokens.shape == (4, getattr(strategy, "num_return_sequences", 1), L)
    for row, n in np.ndindex(*lengths.shape):
        text = tokens[row, n, : lengths[row, n]]
        logits = whole_logits(model, name, row, text).astype("float64")
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        total = log_probs[np.arange(len(text)), text].sum()
        penalty = ((5 + len(text)) / 6) ** getattr(strategy, "length_penalty", 0)
        np.testing.assert_allclose(scores[row, n], total / penalty, rtol=1e-3, atol=1e-4)
        assert len(text) == L or text[-1] == 2
        assert text.min() > 1
        if strategy == decoding.Greedy():
            np.testing.assert_array_equal(log_probs[:, 2:].argmax(-1) + 2, text)


@each_recipe
@each_strategy
def test_compiled_or_not_gives_the_same(name, strategy):
    """`model.generate` compiles; the free function runs as it stands."""
    model = recipe(name)
    one, two = model.generate(SOURCE, strategy, max_length=L), decoding.generate(model, SOURCE, strategy, max_length=L)
    for part, other in zip(one, two, strict=True):
        np.testing.assert_allclose(numpy(part), numpy(other), rtol=1e-4)


@only_tensorflow
@pytest.mark.parametrize("name", ["transformer", "rnn", "causal-window"])
@each_strategy
def test_xla_and_a_graph_of_the_users_give_the_same(name, strategy):
    import tensorflow as tf

    model = recipe(name)
    wanted = model.generate(SOURCE, strategy, max_length=L)
    signature = [tf.TensorSpec((None, None), tf.int32)]
    graph = tf.function(lambda source: model.generate(source, strategy, max_length=L), input_signature=signature)
    for found in (model.generate(SOURCE, strategy, max_length=L, jit_compile=True), graph(SOURCE.astype("int32"))):
        for part, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(numpy(part), numpy(other), rtol=1e-4)


@only_tensorflow
@pytest.mark.parametrize("name", ["transformer", "rnn", "causal"])
def test_inside_a_saved_model(name, tmp_path):
    """Free batch and length, no op of XLA's, the same texts."""
    import tensorflow as tf

    model, strategy = recipe(name), STRATEGIES["beam"]
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "generate",
        lambda source: model.generate(source, strategy, max_length=L)._asdict(),
        input_signature=[tf.TensorSpec((None, None), tf.int32)],
    )
    archive.write_out(str(tmp_path), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path))
    ops_used = {
        node.op
        for function in loaded.signatures["generate"].graph.as_graph_def().library.function
        for node in function.node_def
    }
    ops_used |= {node.op for node in loaded.signatures["generate"].graph.as_graph_def().node}
    assert not [op for op in ops_used if "xla" in op.lower()]
    for source in (SOURCE, SOURCE[:1, :3]):
        found = loaded.signatures["generate"](tf.constant(source, tf.int32))
        wanted = model.generate(source, strategy, max_length=L)._asdict()
        for field, tensor in wanted.items():
            np.testing.assert_allclose(found[field], tensor, rtol=1e-4)


@pytest.mark.parametrize("name", ["transformer-rotary", "rnn", "causal-window"])
@pytest.mark.parametrize("strategy", [STRATEGIES["greedy"], STRATEGIES["beam"]], ids=["greedy", "beam"])
def test_stages_change_nothing(name, strategy, monkeypatch):
    """Texts over several stages, a step reading no more of its cache than its stage may have written."""
    model = recipe(name)
    whole = decoding.generate(model, SOURCE, strategy, max_length=9, end_id=10)
    monkeypatch.setattr(decoding.loop, "stages", lambda max_length: [2, 3, 8, max_length])
    staged = decoding.generate(model, SOURCE, strategy, max_length=9, end_id=10)
    for one, two in zip(whole, staged, strict=True):
        np.testing.assert_allclose(numpy(one), numpy(two), rtol=1e-4)
    assert numpy(whole.lengths).max() > 3


@only_tensorflow
def test_one_trace_serves_all_sizes():
    model = transformer()
    traces = []
    plain = model.init_state
    object.__setattr__(
        model, "init_state", lambda *arguments, **named: (traces.append(1), plain(*arguments, **named))[1]
    )
    for shape in ((4, 5), (1, 3), (7, 2)):
        model.generate(np.ones(shape, "int32"), max_length=L)
    assert len(traces) == 1
    model.generate(np.ones((2, 2), "int32"), max_length=17)
    assert len(traces) == 2


@each_recipe
def test_rows_do_not_see_each_other(name):
    """Sources and prompts of different lengths in one batch, empty ones too: each text is the one of the row alone."""
    model = recipe(name)
    together = model.generate(SOURCE, STRATEGIES["beam"], max_length=L)
    for row in range(3):
        length = np.count_nonzero(SOURCE[row])
        alone = model.generate(SOURCE[row : row + 1, :length], STRATEGIES["beam"], max_length=L)
        np.testing.assert_array_equal(numpy(together.tokens)[row], numpy(alone.tokens)[0])
        np.testing.assert_allclose(numpy(together.scores)[row], numpy(alone.scores)[0], rtol=1e-3, atol=1e-4)
    assert np.all(np.isfinite(numpy(together.scores)))


@each_recipe
def test_steps_equal_the_whole_call(name):
    model = recipe(name)
    target = np.array([[1, 5, 7, 4], [1, 3, 2, 9], [1, 1, 1, 8], [1, 5, 5, 5]])
    for row_wise in (False, True):
        if "causal" in name:
            whole = numpy(model({"target": target}))
            state = model.init_state(target[:, :1], max_length=4)
        else:
            whole = numpy(model({"source": SOURCE, "target": target}))
            state = model.init_state(SOURCE, max_length=4)
        for position in range(4):
            index = np.full(4, position) if row_wise else position
            logits, state = model.step(target[:, position], state, index)
            np.testing.assert_allclose(numpy(logits), whole[:, position], atol=2e-5)


@pytest.mark.parametrize("name", ["transformer", "causal", "causal-window"])
def test_int8_cache_stays_close(name):
    """The int8 cache moves each key and value by half a step of 127: the scores of the texts by less than 2%."""
    model = recipe(name)
    exact = model.generate(SOURCE, max_length=L)
    low = model.generate(SOURCE, max_length=L, cache=cache.Int8Cache())
    free = decoding.generate(model, SOURCE, max_length=L, cache=cache.Int8Cache())
    np.testing.assert_allclose(numpy(low.scores), numpy(free.scores), rtol=1e-3)
    same = np.all(numpy(exact.tokens) == numpy(low.tokens), axis=-1)
    assert same.mean() >= 0.5
    np.testing.assert_allclose(numpy(low.scores)[same], numpy(exact.scores)[same], rtol=0.02, atol=0.02)
    if BACKEND == "tensorflow":
        xla = model.generate(SOURCE, max_length=L, cache=cache.Int8Cache(), jit_compile=True)
        np.testing.assert_allclose(numpy(low.scores), numpy(xla.scores), rtol=1e-3)


@pytest.mark.parametrize("name", ["transformer", "rnn"])
def test_attention_scores_on_request(name):
    model = recipe(name)
    named = {"max_length": L}
    found, scores = model.generate(SOURCE, STRATEGIES["beam"], return_attention_scores=True, **named)
    heads = (2, 2) if name == "transformer" else ()
    assert tuple(scores.shape) == (4, 2, *heads, L, 5)
    sums = numpy(scores).sum(-1)
    written = np.arange(L) < numpy(found.lengths)[..., None]
    written[3] = False  # an empty source has nothing to look at
    written = np.broadcast_to(written.reshape(4, 2, *(1,) * len(heads), L), sums.shape)
    np.testing.assert_allclose(sums, written, atol=1e-5)
    with pytest.raises(ValueError, match="`return_attention_scores` is for models with a source"):
        recipe("causal").generate(SOURCE, max_length=2, return_attention_scores=True)


def test_the_coverage_penalty_reads_the_models_attention():
    model = recipe("transformer")
    named = {"max_length": L}
    plain, covered = (model.generate(SOURCE[:3], decoding.Beam(3, 0.6, penalty), **named) for penalty in (0.0, 0.5))
    _, scores = model.generate(SOURCE[:3], decoding.Beam(3, 0.6, 0.5), return_attention_scores=True, **named)
    looked = np.minimum(numpy(scores).mean((2, 3)).sum(-2), 1)  # [B, N, S]
    penalty = 0.5 * np.where(SOURCE[:3, None] > 0, np.log(np.maximum(looked, 1e-30)), 0).sum(-1)
    same = np.all(numpy(plain.tokens) == numpy(covered.tokens), axis=-1)
    assert same.any()
    wanted = numpy(plain.scores) + penalty
    np.testing.assert_allclose(numpy(covered.scores)[same], wanted[same], rtol=1e-3)


def test_new_weights_are_read():
    model = transformer()
    before = numpy(model.generate(SOURCE, max_length=L).scores)
    model.set_weights([1.5 * weight for weight in model.get_weights()])
    after = numpy(model.generate(SOURCE, max_length=L).scores)
    assert np.any(before != after)
    free = decoding.generate(model, SOURCE, max_length=L)
    np.testing.assert_allclose(after, numpy(free.scores), rtol=1e-4)


@pytest.mark.slow
@only_tensorflow
@pytest.mark.parametrize("name", ["transformer", "rnn", "causal"])
def test_quantised_and_reloaded_models_generate(name, tmp_path):
    model = MAKERS[name]()
    model.generate(SOURCE, max_length=L)
    model.quantize("int8")
    wanted = model.generate(SOURCE, STRATEGIES["beam"], max_length=L)
    free = decoding.generate(model, SOURCE, STRATEGIES["beam"], max_length=L)
    np.testing.assert_allclose(wanted.scores, free.scores, rtol=1e-3)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").generate(SOURCE, STRATEGIES["beam"], max_length=L)
    np.testing.assert_array_equal(again.tokens, wanted.tokens)


@pytest.mark.slow
@only_tensorflow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_generates(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        for name in ("transformer", "rnn", "causal"):
            found = MAKERS[name]().generate(SOURCE, STRATEGIES["beam"], max_length=L)
            assert np.all(np.isfinite(found.scores))
    finally:
        keras.config.set_dtype_policy(before)


@only_tensorflow
def test_chance_without_a_seed_can_be_saved(tmp_path):
    import tensorflow as tf

    model = recipe("rnn")
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "generate",
        lambda source: {"tokens": model.generate(source, decoding.Sample(), max_length=L).tokens},
        input_signature=[tf.TensorSpec((None, None), tf.int32)],
    )
    archive.write_out(str(tmp_path), verbose=False)
    sample = tf.saved_model.load(str(tmp_path)).signatures["generate"]
    one, two = (sample(tf.constant(SOURCE, tf.int32))["tokens"].numpy() for _ in range(2))
    assert np.any(one != two)


def test_prompts_are_read_to_their_end():
    """An empty prompt begins with the start id; padding before or inside a prompt is refused."""
    model = recipe("causal")
    empty = np.zeros((1, 2), int)
    for start in (1, 5):
        found = model.generate(empty, max_length=3, start_id=start)
        wanted = model.generate(np.array([[start]]), max_length=3)
        np.testing.assert_array_equal(numpy(found.tokens), numpy(wanted.tokens))
    with pytest.raises(ValueError, match="padding after them, not before or inside"):
        model.generate(np.array([[0, 0, 5, 6]]), max_length=3)
    with pytest.raises(ValueError, match="attends to a source: `step` must take `return_attention_scores`"):
        model.generate(SOURCE, decoding.Beam(2, 0, 0.1), max_length=3)
    with pytest.raises(ValueError, match="`cache` needs a model with caches: `init_state` must take `cache`"):
        recipe("rnn").generate(SOURCE, max_length=3, cache=cache.Int8Cache())


def test_batches_with_a_progress_bar(capsys):
    model = recipe("rnn")
    found = list(decoding.generate_batches(model, [SOURCE, SOURCE[:2]], max_length=3))
    assert [tuple(each.tokens.shape) for each in found] == [(4, 1, 3), (2, 1, 3)]
    assert "2/2" in capsys.readouterr().out
    list(decoding.generate_batches(model, iter([SOURCE]), max_length=3, verbose=0))
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "named", "message"),
    [
        (SOURCE[0], {}, r"`source` must have 2 axes, \[B, S\]. Received: source.shape=\(5,\)"),
        (SOURCE * 5, {}, "`source` must hold ids from 0 to 19. Received: source with ids from 0 to 45"),
        (SOURCE * 1.0, {}, "`source` must hold integer ids"),
        (SOURCE, {"end_id": 11}, "`end_id` must be less than the 11 ids of the model"),
        (SOURCE, {"max_length": -1}, "`max_length` must be an integer of at least 1"),
        (SOURCE, {"prefix_ids": np.ones((4, 8), int)}, "P at most max_length=7"),
    ],
)
def test_bad_input_is_named(source, named, message):
    with pytest.raises(ValueError, match=message):
        recipe("transformer").generate(source, **{"max_length": L, **named})
