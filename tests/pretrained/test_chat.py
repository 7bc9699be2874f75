"""Chat templates: what stands before and behind one turn of a user, derived at load."""

import json

import pytest

pytest.importorskip("jinja2")
text = pytest.importorskip("keras_attn.text", reason="needs TensorFlow Text")
pytest.importorskip("tensorflow_text")

from keras_attn.pretrained.chat import chat_of  # noqa: E402

TURNS = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content']SPACES }}</s>\n{% endfor %}"
ANSWER = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
CHATML = TURNS.replace("SPACES", "") + ANSWER


def test_a_template_becomes_prefix_and_suffix(tmp_path):
    settings = {"chat_template": "{{ bos_token }}" + CHATML, "bos_token": {"content": "<s>"}}
    assert chat_of(tmp_path, settings) == text.Chat("<s><|user|>", "</s>\n<|assistant|>")
    settings["chat_template"] = TURNS.replace("SPACES", " | trim") + ANSWER
    assert chat_of(tmp_path, settings) == text.Chat("<|user|>", "</s>\n<|assistant|>", strips=True)


def test_where_a_template_may_stand(tmp_path):
    assert chat_of(tmp_path, {}) is None
    named = [{"name": "tools", "template": "x"}, {"name": "default", "template": CHATML}]
    assert chat_of(tmp_path, {"chat_template": named}) == text.Chat("<|user|>", "</s>\n<|assistant|>")
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "A" + CHATML}))
    assert chat_of(tmp_path, {"chat_template": CHATML}).prefix == "A<|user|>"
    (tmp_path / "chat_template.jinja").write_text("B" + CHATML)
    assert chat_of(tmp_path, {"chat_template": CHATML}).prefix == "B<|user|>"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("no text", "it does not write the text exactly once"),
        ("{{ messages[0].content }} {{ messages[0].content }}", "it does not write the text exactly once"),
        ("{{ messages[0].content | upper }}", "it does not write the text exactly once"),
        ("{{ messages[0].content | replace('\n', ' ') }}", "it changes the text"),
        ("{{ messages[0].content.lstrip() }}", "it changes the spaces around the text"),
        ("{{ raise_exception('system turns only') }}", "system turns only"),
        ("{{ strftime_now('%d') }}", "'strftime_now' is undefined"),
        ("{{ messages.__class__.__mro__ }}", "unsafe"),
        ("{% for %}", "Expected"),
    ],
)
def test_other_templates_give_plain_prompts_and_a_warning(template, reason, tmp_path):
    with pytest.warns(UserWarning, match=f"so prompts are plain texts: .*{reason}"):
        assert chat_of(tmp_path, {"chat_template": template}) is None


def test_without_jinja2_a_template_is_an_error(tmp_path, monkeypatch):
    from keras_attn.pretrained import chat

    def missing(name, extra):
        raise ImportError(f"{name} is missing")

    monkeypatch.setattr(chat, "optional_module", missing)
    assert chat_of(tmp_path, {}) is None
    with pytest.raises(ImportError, match="jinja2.sandbox is missing"):
        chat_of(tmp_path, {"chat_template": CHATML})


def test_tags_and_filters_of_templates(tmp_path):
    template = (
        "{% set date = strftime_now('%d') if strftime_now is defined else '26 Jul 2024' %}{{ date }}"
        "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{% generation %}"
        "{{ m.content }}{% endgeneration %}{{ {'a': '<é>'} | tojson }}{% endfor %}"
    )
    assert chat_of(tmp_path, {"chat_template": template}) == text.Chat("26 Jul 2024", '{"a": "<é>"}')


@pytest.mark.tensorflow
def test_the_prompts_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    own = tokenizers.Tokenizer(tokenizers.models.BPE())
    own.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>", "<|user|>", "<|assistant|>"]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    own.train_from_iterator(["hello world, hello you"], trainer)
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=own, bos_token="<s>", eos_token="</s>")
    theirs.chat_template = "{{ bos_token }}" + TURNS.replace("SPACES", ".strip()") + ANSWER
    theirs.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    ours = text.PretrainedTokenizer(tmp_path / "tokenizer.json", max_length=13, chat=chat_of(tmp_path, settings))
    texts = ["hello", " \u2003hello world\n", "", "a </s> b", "\u00e9\U0001f600"]
    for each, ids in zip(texts, ours.ragged_prompt(texts).to_list(), strict=True):
        wanted = theirs.apply_chat_template([{"role": "user", "content": each}], add_generation_prompt=True)
        assert ids == wanted["input_ids"]
    (long,) = ours.ragged_prompt(["hello world " * 9]).to_list()
    turn = {"role": "user", "content": "hello world " * 9}
    whole = theirs.apply_chat_template([turn], add_generation_prompt=True)
    whole = whole["input_ids"]
    behind = 3  # end, line end, assistant
    assert len(long) == 13 and long == whole[: 13 - behind] + whole[-behind:]
    again = text.PretrainedTokenizer.from_config(ours.get_config())
    assert again.chat == ours.chat


def test_what_a_chat_must_have():
    with pytest.raises(ValueError, match="`suffix` must be of type str. Received: suffix=3"):
        text.Chat("a", 3)
    with pytest.raises(ValueError, match="`strips` must be of type bool"):
        text.Chat("a", "b", "c")
