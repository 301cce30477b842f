"""Experiments are folded from files, ancestors and --set, and every problem is said at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bespoke.errors import ConfigError
from bespoke.experiment import config

if TYPE_CHECKING:
    from pathlib import Path


def append(file: Path, text: str) -> None:
    file.write_text(file.read_text(encoding="utf-8") + text, encoding="utf-8")


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def refused(project: Path, name: str = "keep_tokens_3", *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config.load(name, repository=project, overrides=overrides)
    return str(caught.value)


def test_keep_tokens_3_is_its_parent_with_two_dataset_options_changed(repository: Path) -> None:
    child = config.load("keep_tokens_3", repository=repository)
    parent = config.load("final_corrected_captions", repository=repository)

    assert child.lineage == ("final_corrected_captions",)
    assert child.run_name == "SD15_KEEP_TOKENS_3_EXPERIMENT"
    assert child.output_name == "bespoke_baby_sd15_lora_keep_tokens_3"
    assert child.confidence == 0.85
    assert {key: s.value for key, s in child.training.items() if key != "log_prefix"} == {
        key: s.value for key, s in parent.training.items() if key != "log_prefix"
    }
    differing = {
        key: (parent.general[key].value, setting.value)
        for key, setting in child.general.items()
        if parent.general[key].value != setting.value
    }
    assert differing == {"keep_tokens": (1, 3), "caption_dropout_rate": (0.0, 0.05)}
    assert child.specs["training_data"].pictures == 203


def test_every_experiment_of_the_project_loads(repository: Path) -> None:
    found = {name: config.load(name, repository=repository) for name in config.names(repository)}
    assert len(found) == 8
    assert len({experiment.output_name for experiment in found.values()}) == 8
    assert found["expanded_dataset"].specs["generated"].pictures_max == 100


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("noise_offset=0.0", 0.0),
        ("xformers=false", False),
        ("mixed_precision=bf16", "bf16"),
        ('network_args=["conv_dim=8", "conv_alpha=4"]', ["conv_dim=8", "conv_alpha=4"]),
        ("seed = 7", 7),
    ],
)
def test_set_reads_values_as_toml_and_bare_words_as_text(
    repository: Path, written: str, value: object
) -> None:
    overrides = [f"training.{written}"]
    loaded = config.load("keep_tokens_3", repository=repository, overrides=overrides)
    setting = loaded.training[written.partition("=")[0].strip()]
    assert (setting.value, type(setting.value), setting.origin) == (value, type(value), "--set")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        *((text, f"--set {text}: write training.KEY=VALUE or dataset.KEY=VALUE")
          for text in ("learning_rate=1", "training.x", "nothing", "model.seed=1")),
        ("training.ddp_timeout=99999999999999999", "should be at most 1000000000000000"),
        ('training.log_prefix="a\\u0000b"', "log_prefix: should hold no control character"),
        ("training.log_prefix=" + "[" * 5000, "should have at most 2000 characters"),
    ],
)  # fmt: skip
def test_a_set_that_cannot_be_is_answered_in_one_short_line(
    project: Path, override: str, said: str
) -> None:
    message = refused(project, "keep_tokens_3", override)
    assert said in message
    assert len(message) < 200


@pytest.mark.parametrize("name", ["../../etc/passwd", "x" * 5000])
def test_a_name_that_is_none_is_refused_where_it_stands(project: Path, name: str) -> None:
    assert "did you mean 'keep_tokens_3'?" in refused(project, "keep_token_3")
    assert "--experiment: no experiment" in refused(project, name)
    odd = project / "experiments" / "odd.toml"
    odd.write_text(f'parent = "{name}"\n', encoding="utf-8")
    assert "experiments/odd.toml: parent: no experiment" in refused(project, "odd")
    odd.write_text(f'output_name = "{name}"\n', encoding="utf-8")
    assert "experiments/odd.toml: output_name: " in refused(project, "odd")


def test_an_experiment_cannot_be_its_own_ancestor(project: Path) -> None:
    change(
        project / "experiments" / "final_corrected_captions.toml",
        'subject = "background"',
        'parent = "keep_tokens_5"',
    )
    message = refused(project, "keep_tokens_5")
    assert "keep_tokens_5 -> keep_tokens_3 -> final_corrected_captions -> keep_tokens_5" in message


def test_a_typo_in_any_of_the_files_names_file_key_and_nearest_name(project: Path) -> None:
    change(project / config.TRAINING_FILE, "network_dim =", "network_dims =")
    change(project / config.DATASET_FILE, "shuffle_caption", "shuffle_captions")
    append(project / config.TRAINING_FILE, "seed = 43\n")
    append(project / "experiments" / "keep_tokens_3.toml", "keep_token = 4\n")
    change(project / "experiments" / "keep_tokens_3.toml", "hypothesis =", "hypotesis =")
    message = refused(project)
    assert "seed: written twice" in message
    for file, wrong, right in (
        ("training_config.toml", "network_dims", "network_dim"),
        ("dataset_config.toml", "shuffle_captions", "shuffle_caption"),
        ("experiments/keep_tokens_3.toml", "keep_token", "keep_tokens"),
        ("experiments/keep_tokens_3.toml", "hypotesis", "hypothesis"),
    ):
        lines = [line for line in message.splitlines() if line.startswith(f"{file}: {wrong}:")]
        assert len(lines) == 1, message
        assert right in lines[0].split(":", 2)[2]


def test_an_option_that_a_subset_sets_itself_cannot_be_overlaid_without_effect(
    project: Path,
) -> None:
    message = refused(project, "expanded_dataset", "dataset.num_repeats=3")
    assert "--set: num_repeats: would have no effect" in message
    assert "experiments/expanded_dataset.toml" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('training = "x"', "training: should be a table"),
        ("confidence = 85", "confidence: should be at most 1, not 85"),
        ('subject = "backgroud"', 'subject: unknown value "backgroud": did you mean'),
        ("parent = 3", "parent: should be text in quotes"),
        ('dataset = {subsets = ["a"]}', "subsets: write a table for each, with its image_dir"),
        ("data = {training_data = {picture = 3}}", "data.training_data.picture: unknown key"),
        ("[training]\noutput_name = 'foo'", "output_name: write output_name at the top"),
    ],
)
def test_what_is_wrong_in_an_experiment_is_said_with_its_key(
    project: Path, text: str, said: str
) -> None:
    (project / "experiments" / "odd.toml").write_text(text, encoding="utf-8")
    assert refused(project, "odd").startswith(f"experiments/odd.toml: {said}")


def test_a_broken_experiment_is_no_obstacle_to_the_others(project: Path) -> None:
    (project / "experiments" / "broken.toml").write_text("[", encoding="utf-8")
    (project / "experiments" / "my test.toml").write_text("[", encoding="utf-8")
    assert "broken" in config.names(project)
    assert "my test" not in config.names(project)
    assert len(config.known(project)) == 8


def test_a_training_file_without_what_a_run_needs_is_refused(project: Path) -> None:
    (project / config.TRAINING_FILE).write_text("max_train_steps = 100\n", encoding="utf-8")
    lines = refused(project, "final_corrected_captions").splitlines()
    for said in (
        "max_train_steps: runs are counted in epochs: write max_train_epochs",
        "max_train_epochs: is missing",
        "network_module: is missing",
    ):
        assert f"training_config.toml: {said}" in lines


def test_every_problem_of_an_experiment_is_said_at_once_with_its_table(project: Path) -> None:
    (project / "experiments" / "odd.toml").write_text(
        'confidance = 1\nexpected = "x"\n[gate]\nepok = 3\n[test]\nsize = 65\n'
        "[data.training_data]\nsize = 2.5\n[training]\nnetwork_dims = 3\n",
        encoding="utf-8",
    )
    assert sorted(refused(project, "odd").splitlines()) == sorted(
        [
            'experiments/odd.toml: expected: should be a list, not "x"',
            "experiments/odd.toml: gate.epoch: is missing",
            "experiments/odd.toml: gate.epok: unknown key: did you mean 'epoch'?",
            "experiments/odd.toml: test.size: should be a multiple of 8, not 65",
            "experiments/odd.toml: data.training_data.size: should be a whole number, not 2.5",
            "experiments/odd.toml: confidance: unknown key: did you mean 'confidence'?",
            "experiments/odd.toml: network_dims: the trainer has no such option: "
            "did you mean 'network_dim'?",
        ]
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[general]\n[[datasets]]\n[[datasets.subsets]]\n",
        'datasets = [{subsets = [{image_dir = "x"}]}, {subsets = []}]',
        "[general]\n[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = 'x'\n",
    ],
)
def test_a_dataset_file_of_another_form_is_refused(project: Path, text: str) -> None:
    (project / config.DATASET_FILE).write_text(text, encoding="utf-8")
    assert refused(project, "smoke").startswith("dataset_config.toml: ")
