"""What the workflow's configuration resolves to."""

from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import yaml

from mobilevideogpt import configuration
from mobilevideogpt.configuration import check_configuration_file, resolve, resolve_source
from mobilevideogpt.errors import InputError
from mobilevideogpt.settings import defaults, flatten
from mobilevideogpt.training.settings import TrainingSettings

CONFIGS = Path(__file__).parents[1] / "config"
FINETUNE = yaml.safe_load((CONFIGS / "schema.yaml").read_text())["properties"]["finetune"]
FUZZED = 5000  # configurations
SPLIT = {"train": 1.0, "val": 0, "test": 0}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A project without data."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add(path):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")


def resolved(config=None, **options):
    return resolve(config or {}, config_folder=CONFIGS, **options)


@pytest.mark.parametrize("file", ["manifest.json", "ground_truth.json", "questions.json", "labels.csv", "squats/1.MP4"])
def test_auto_means_the_user_s_data_where_there_is_any(file):
    add("dataset/sample/squats/1.mp4")
    assert resolve_source("auto") == "sample"
    add(f"dataset/{file}")
    assert resolve_source("auto") == "qved"
    assert resolve_source("hub") == "hub" and resolve_source("sample") == "sample"


def test_the_prompt_does_not_name_the_exercise_where_it_is_the_answer():
    add("dataset/manifest.json")
    folders = {"annotations": {"source": "folders"}}
    assert resolved(folders).settings["annotations"]["prompt"] == "Which exercise does this video show?"
    own = {"annotations": {"source": "folders", "prompt": "What is it?"}}
    assert resolved(own).settings["annotations"]["prompt"] == "What is it?"
    with pytest.raises(InputError, match=r"^--config: annotations\.prompt: \{exercise\} is the answer"):
        resolved(given := {"annotations": own["annotations"] | {"prompt": "Is it {exercise}?"}}, command_line=given)


def test_the_user_s_data_cannot_be_forced_where_there_is_none():
    with pytest.raises(InputError, match=r"dataset/manifest\.json; add it"):
        resolve_source("qved")
    add("dataset/squats/1.mp4")
    assert resolve_source("qved") == "qved"


def test_with_data_of_the_user_the_defaults_are_those_of_the_schema():
    add("dataset/manifest.json")
    found = resolved({"finetune": {"epochs": "3"}})
    assert found.source == "qved" and found.notice == ""
    assert found.settings["finetune"]["epochs"] == 3 and found.settings["finetune"]["precision"] == "bf16"
    assert found.released_model == found.settings["model"]


def test_the_sample_s_settings_are_between_the_defaults_and_the_user_s():
    default = defaults(yaml.safe_load((CONFIGS / "schema.yaml").read_text()))
    given = {"finetune": {"precision": "bf16", "learning_rate": 0.5, "batch_size": "8"}}
    found = resolved(default | given, command_line={"finetune": {"precision": "bf16"}})
    finetune = found.settings["finetune"]
    assert found.source == "sample" and found.settings["run"] == "finetune"
    assert finetune["lora_dropout"] == 0, "the sample's"
    assert finetune["learning_rate"] == 0.5 and finetune["batch_size"] == 8, "the user's"
    assert finetune["precision"] == "bf16", "the default, but asked for on the command line"
    assert found.released_model["base"] == "Amshaker/Mobile-VideoGPT-0.5B" != found.settings["model"]["base"]


def test_a_model_of_the_project_is_found_from_any_folder():
    elsewhere = resolved().settings["model"]
    assert Path(elsewhere["base"], "config.json").is_file() and elsewhere["video_encoder"] is None
    assert resolved({"model": {"base": "owner/name"}}).settings["model"]["base"] == "owner/name"


def test_a_notice_of_one_line_says_why_the_sample_is_used_and_where_its_settings_are():
    notice = resolved().notice
    assert notice.startswith("No dataset/manifest.json: using the built-in sample")
    assert "settings differ from the defaults, see config/sample.yaml" in notice and "\n" not in notice
    add("dataset/manifest.json")
    assert resolved({"dataset": {"source": "sample"}}).notice.startswith("dataset.source is sample: using")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"dataset": "mydata"},
            r"--config: dataset: 'mydata' is not a group.*write dataset=\{source: qved\} with --config",
        ),
        ({"finetune": {"epochs": 0}}, r"--config: finetune\.epochs: 0 must be more than 0\. Meaning: Passes"),
        ({"finetune": {"warmup_ratio": 1}}, r"--config: finetune\.warmup_ratio: 1 must be less than 1"),
        ({"finetune": {"seed": -1}}, r"--config: finetune\.seed: -1 must be at least 0"),
        ({"annotations": {"split": SPLIT | {"test": 0.3}}}, r"--config: annotations\.split: .* add up to 1\.3"),
        ({"finetune": {"batch_size": 2, "processes": 3}}, r"--config: finetune\.batch_size: 3 processes"),
        ({"annotations": {"prompt": "{person}"}}, r"--config: annotations\.prompt .*\{person\}"),
        ({"annotations": {"recording_pattern": "("}}, r"--config: annotations\.recording_pattern"),
        ({"run": "features"}, r"--config: run: features"),
    ],
)
def test_an_error_on_the_command_line_names_it_and_one_in_the_file_names_the_file(config, message):
    with pytest.raises(InputError, match=message):
        resolved(config, command_line=config)
    with pytest.raises(InputError, match="^" + message.replace("--config: ", "config.yaml: ", 1)):
        resolved(config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"run": "features"}, "run: features is a name that the workflow uses"),
        ({"run": "preflight.rehearsal.json"}, "choose another"),
        ({"annotations": {"split": SPLIT | {"test": 0.3}}}, r"annotations\.split: the fractions add up to 1\.3"),
        ({"finetune": {"quantization": "nf4", "method": "full"}}, r"finetune\.quantization: nf4 does not go with"),
        ({"finetune": {"epochz": 1}}, "did you mean 'epochs'"),
    ],
)
def test_settings_that_cannot_be_are_named(config, message):
    with pytest.raises(InputError, match=message):
        resolved(config)


def test_the_training_settings_have_the_names_defaults_types_and_choices_of_the_schema():
    assert vars(TrainingSettings()) == defaults(FINETUNE)
    for name, hint in get_type_hints(TrainingSettings).items():
        entry = FINETUNE["properties"][name]
        assert _schema_of(hint) == [_stripped(one) for one in entry.get("oneOf", [entry])], name


def _stripped(entry):
    """A schema's type or choices, without bounds and texts."""
    return {key: value for key, value in entry.items() if key in ("type", "enum", "const")}


def _schema_of(hint):
    names = {int: "integer", float: "number", bool: "boolean", str: "string", type(None): "null"}
    if get_origin(hint) is list:
        return [{"type": "array"}]
    if get_origin(hint) is Literal:
        return [{"enum": list(get_args(hint))}]
    kinds = get_args(hint)
    if type(None) in kinds:
        return [{"type": [names[kind] for kind in kinds]}]
    return [
        {"const": get_args(kind)[0]} if get_origin(kind) is Literal else {"type": names[kind]}
        for kind in kinds or (hint,)
    ]


def bomb(depth: int) -> list:
    """A list that is a few lines of YAML with aliases, and 10 ** depth values."""
    values: list = ["x"] * 10
    for _ in range(depth - 1):
        values = [values] * 10
    return values


INSIDE_ITSELF: dict = {}
INSIDE_ITSELF["batch_size"] = INSIDE_ITSELF
UNUSABLE = {
    "a key that YAML reads as a boolean": (
        {"finetune": {False: 1}},
        "the key False in finetune is not text",
    ),
    "at the top level": ({True: 1}, "the key True in the top level is not text"),
    "a key that is a number": ({"finetune": {1: 1}}, "the key 1 in finetune"),
    "a key of many digits": ({"finetune": {10**5000: 1}}, "the key of many digits"),
    "a number of 400 digits": (
        {"finetune": {"epochs": int("9" * 400)}},
        "an integer of more than 19 digits",
    ),
    "of 5,000 digits": ({"finetune": {"seed": -(10**5000)}}, r"finetune\.seed: an integer of more than 19"),
    "a number of 400 digits as text": ({"finetune": {"epochs": "9" * 400}}, r"not a finite number\. Meaning"),
    "a format": ({"annotations": {"prompt": "{exercise:d}"}}, r"unknown placeholder \{exercise:d\}"),
    "a conversion": ({"annotations": {"prompt": "{exercise!z}"}}, r"placeholder \{exercise!z\}.*without a format"),
    "a huge width": ({"annotations": {"prompt": "{exercise:>99999999999}"}}, r"annotations\.prompt .*placeholder"),
    "nested fields": ({"annotations": {"prompt": "{exercise:{exercise}}"}}, "placeholder"),
    "an attribute": ({"annotations": {"prompt": "{exercise.__class__}"}}, "placeholder"),
    "half of a character": ({"annotations": {"prompt": "Wha\ud800t?"}}, r"annotations\.prompt.*half of a character"),
    "in infer": ({"prompt": "{exercise!z}"}, r"^prompt '\{exercise!z\}': unknown placeholder"),
    "parentheses": ({"annotations": {"recording_pattern": "(" * 1000 + ")" * 1000}}, "nested too deeply"),
    "more of them": ({"annotations": {"recording_pattern": "(" * 2000 + ")" * 2000}}, r"recording_pattern: '\(.*long"),
    "a huge repetition": ({"annotations": {"recording_pattern": "(a{99999999999})"}}, "number is too large"),
    "a run of 300 letters": ({"run": "a" * 300}, r"run: 'a{119}\.\.\. \(302 characters\) is too long"),
    "a run with a line end": ({"run": "a\n"}, r"run: 'a\\n' does not match"),
    "runs": ({"runs": ["a" * 300]}, r"runs\.0: .* is too long"),
    "a name of 300 letters": ({"model": {"base": "org/" + "a" * 300}}, r"model\.base: .* of more than 255 bytes"),
    "a null byte": ({"model": {"base": "\0"}}, r"model\.base: '\\x00' contains '\\x00', a control character"),
    "a text without end": ({"dataset": {"hub_repo": "a" * 200_000}}, "a text of 200,000 characters"),
    "an anchor that contains itself": ({"finetune": INSIDE_ITSELF}, "finetune: is nested more than 20 levels"),
    "an alias bomb": ({"dataset": {"exclude": bomb(9)}}, "more than 200,000 values, aliases"),
    "a date": (
        {"run": yaml.safe_load("2026-01-02")},
        "run: .* is of YAML's type date.*; put it in quotes",
    ),
    "a set": ({"finetune": yaml.safe_load("!!set {a, b}")}, "YAML's type set"),
    "half of a character in a key": ({"finetune": {"\ud800": 1}}, r"a key in finetune: '\\ud800' contains"),
    "keys without end": ({"finetune": {f"x{i}": 1 for i in range(1000)}}, "and 980 more; use one of"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_yaml_can_express_and_no_setting_is_gets_a_short_message(case):
    config, message = UNUSABLE[case]
    with pytest.raises(InputError, match=message) as caught:
        resolved(config)
    assert len(str(caught.value)) < 2000


def number_settings(schema=None, path=()):
    """The path of each setting that may be a number, or a list of numbers, and that list's length."""
    schema = schema or yaml.safe_load((CONFIGS / "schema.yaml").read_text())
    for name, entry in schema["properties"].items():
        if "properties" in entry:
            yield from number_settings(entry, (*path, name))
        else:
            kinds = [entry, *entry.get("oneOf", []), entry.get("items", {})]
            if any({"number", "integer"} & {*_list(kind.get("type"))} for kind in kinds):
                yield (*path, name), entry.get("minItems", 0)


def _list(value):
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), "nan", "inf", "-Infinity", "1e999"])
@pytest.mark.parametrize(("path", "length"), list(number_settings()), ids=lambda value: str(value))
def test_no_number_is_infinite(path, length, value):
    config: Any = [value] * length if length else value
    for name in reversed(path):
        config = {name: config}
    if path[1] == "split":
        config["annotations"]["split"] = SPLIT | config["annotations"]["split"]
    with pytest.raises(InputError, match=rf"{path[-1]}.*is not a finite number"):
        resolved(config)


def test_a_message_names_the_file_that_has_the_setting(folder):
    (folder / "my.yaml").write_text("finetune: {epochs: -1}\nevaluate: {batch_size: 0}\n")
    given = {"finetune": {"epochs": -1, "lora_r": "x"}, "evaluate": {"batch_size": 0}, "oops": 1}
    with pytest.raises(InputError) as caught:
        resolved(given, command_line={"evaluate": {"batch_size": 0}, "oops": 1}, files=[folder / "my.yaml"])
    message = str(caught.value)
    assert "--config: evaluate.batch_size: 0" in message and "--config: unknown key in the top level: 'oops'" in message
    assert "my.yaml: finetune.epochs: -1" in message and "config.yaml: finetune.lora_r: 'x'" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00binary", "is not UTF-8 text .*at byte 0"),
        (b"a: [1", r"config\.yaml, line 2: is not YAML \(.*; correct it"),
        (b"run: a\nfinetune:\n  epochs: 3\n lora_r: 4\n", r"^config\.yaml, line 4: is not YAML \((?!.*unicode)"),
        (b"run:\ta\n\tb: c", "is not YAML"),
        (b"epochs: " + b"9" * 5000, "is not YAML|19 digits"),
        (b"run: 2026-99-99", "is not YAML"),
        (b"[" * 5000, "is not YAML"),
        (b"? {a: b}\n: c", "is not YAML|is not text"),
        (b"a: !!python/name:os.system ", "is not YAML"),
        (b"finetune: &a {x: *a}", "nested more than 20"),
        (b"", "contains None, not settings"),
        (b"- a", r"contains \['a'\], not settings"),
    ],
)
def test_a_configuration_file_that_snakemake_cannot_read_is_an_error_first(content, message, folder):
    (folder / "config.yaml").write_bytes(content)
    with pytest.raises(InputError, match=message):
        check_configuration_file("config.yaml")


def test_the_project_s_own_configuration_can_be_read():
    check_configuration_file(CONFIGS.parent / "config.yaml")


NUMBERS = [0, -1, 1, 10**18, 10**400, -(10**400), 0.5, -0.0, 1e308, float("nan"), float("inf")]
TEXTS = [
    "nan",
    "inf",
    "1e999",
    "1e308",
    "auto",
    "true",
    "null",
    "{exercise}",
    "{",
    "}",
    "{}",
    "{0}",
    "{exercise!r}",
    "{exercise:>9999999999}",
    "{exercise[0]}",
    "(",
    "(a",
    "[",
    "*",
    "(?P<a>b)(?P<a>c)",
    "(\\9)",
    "<video>",
    "<video><video>",
    "../..",
    "/",
    "~",
    "features",
    "..",
    ".",
    "a.b",
]
TEXTS += ["", " ", "\0", "\n", "\ud800", "\u202e", "9" * 400, "a" * 300, "a" * 200_000, "(a{65536})" * 9]
TEXTS += ["(" * depth + ")" * depth for depth in (90, 1000, 2000)]
LISTS = [[], [None], [[]], [None, None], [2, 1], ["a", "a"], bomb(2)]
GROUPS = [{}, {"": 1}, {None: 1}, {1: 2}, {True: 1}, {(1, 2): 3}, INSIDE_ITSELF, SPLIT]
ODD = [None, True, False, b"bytes", {1, 2}, (1, 2), *NUMBERS, *TEXTS, *LISTS, *GROUPS]


def test_thousands_of_mutated_configurations_have_no_other_error_than_the_intended_one(folder, monkeypatch):
    monkeypatch.setattr(configuration, "_read_yaml", cache(configuration._read_yaml))  # else most of the time
    random = Random(0)
    add("dataset/manifest.json")
    schema = yaml.safe_load((CONFIGS / "schema.yaml").read_text())
    paths = [path for path, _ in flatten(defaults(schema))]
    paths += [*schema["properties"], "annotations.split", "oops", "finetune.oops"]
    refused = 0
    for number in range(FUZZED):
        config: dict = {}
        for path in random.sample(paths, random.randint(1, 3)):
            *groups, name = path.split(".")
            place = config
            for group in groups:
                place = place.setdefault(group, {})
                if not isinstance(place, dict) or place is INSIDE_ITSELF:
                    break
            else:
                key = name if random.random() < 0.95 else random.choice([None, True, 1, 1.5, "", "\ud800", name + "x"])
                place[key] = _mutated(random)
        if number % 50 == 0:  # the sample's settings are between
            (folder / "dataset/manifest.json").unlink()
        try:
            resolved(config, command_line=config if random.random() < 0.3 else None)
        except InputError as error:
            refused += 1
            str(error).encode()
            assert len(str(error)) < 10_000, config
        add("dataset/manifest.json")
    assert FUZZED * 0.3 < refused < FUZZED, "both kinds occur"


def _mutated(random):
    value = random.choice(ODD)
    if random.random() < 0.1:
        return [value, random.choice(ODD)]
    if random.random() < 0.1 and isinstance(value, str):
        return "".join(random.choice((value + "({[\\é\ud800")[:50]) for _ in range(random.randint(0, 20)))
    return dict(value) if isinstance(value, dict) and value is not INSIDE_ITSELF else value
