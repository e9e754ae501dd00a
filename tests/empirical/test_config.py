"""Configurations: everything is checked when they are read, and `--show` prints all of one."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import twoaxis
from empirical.measuring.targets import TARGETS
from empirical.pruning.comparison import Factorial
from empirical.runs.config import RunConfig, read_config
from empirical.runs.config_text import to_toml

SMALL = {"seeds": [0, 1], "device": "cpu", "training": {"epochs": 1, "batch_size": 64}}


def test_a_configuration_can_be_overridden_as_its_file_can():
    config = read_config(SMALL)
    assert read_config(config) == config
    assert read_config(config, ["seeds=[5]"]).seeds == (5,)


def test_overrides_are_read_as_toml():
    overrides = ["model.width=0.5", "model.name=resnet18", "seeds=[3]", 'data.source="a b"']
    config = read_config(SMALL, overrides)
    assert (config.model.width, config.model.name) == (0.5, "resnet18")
    assert (config.seeds, config.data.source) == ((3,), "a b")
    assert config.training.batch_size == 64


@pytest.mark.parametrize(
    ("override", "message"),
    [
        # keys and types
        ("training.epoch=3", r"config key training\.epoch must be one of .*Did you mean 'epochs'"),
        ("trainig.epochs=3", r"config key trainig must be one of .*Did you mean 'training'"),
        ("training.epochs=many", r"config key training\.epochs must be float; got 'many'"),
        ("training.flip=1", r"config key training\.flip must be bool; got 1"),
        ("training=3", r"config section \[training\] must be a table; got 3"),
        ("measure=3", r"config section \[measure\] must be a table; got 3"),
        ("seeds=3", "config key seeds must be a list; got 3"),
        ("seeds=[true]", "config key seeds must be int; got True"),
        ("measure.positions=2.5", r"config key measure\.positions must be int; got 2\.5"),
        ("measure.noise=true", r"config key measure\.noise must be str or float; got True"),
        ("seeds.first=1", "--set 'seeds.first=1': 'seeds' is a value, not a section"),
        ("epochs", "--set must be section.key=value; got 'epochs'"),
        # names, with the nearest
        ("device=gpu", r"device must be one of .*Did you mean 'cpu'"),
        ("device=cuda:one", "device must be auto, cpu, cuda or cuda:N; got 'cuda:one'"),
        ("model.name=resnet8", r"model\.name must be one of .*Did you mean 'resnet18'"),
        ("measure.target=margin", r"measure\.target must be one of .*Did you mean 'logit_margin'"),
        ("measure.sampling=pool", r"measure\.sampling must be one of .*Did you mean 'pooled'"),
        ("measure.noise=medium", r"measure\.noise must be 'median'.*got 'medium'"),
        ("training.optimizer=adam", r"training\.optimizer must be one of .*Did you mean 'adamw'"),
        ('pruning.criteria=["l3"]', r"pruning\.criteria must be one of .*Did you mean 'l2'"),
        ('pruning.allocations=["globe"]', r"pruning\.allocations must be .*Did you mean 'global'"),
        ('pruning.recoveries=["merged"]', r"pruning\.recoveries must be .*Did you mean 'merge'"),
        # ranges
        ("seeds=[1, 1]", r"seeds must be different whole numbers from 0 to 2.63 - 1.*got \[1, 1\]"),
        (
            "seeds=[]",
            r"seeds must be different whole numbers from 0 to 2.63 - 1, at least one; got \[\]",
        ),
        ("data.image_size=0", r"data\.image_size must be a whole number >= 1; got 0"),
        ("data.calibration=1", r"data\.calibration must be a whole number >= 2; got 1"),
        ("data.selection=1.0", r"data\.selection must be a finite number >= 0 and < 1; got 1\.0"),
        ("data.seed=-1", r"data\.seed must be a whole number >= 0; got -1"),
        ("model.width=0.0", r"model\.width must be a finite number > 0; got 0\.0"),
        ("model.width=inf", r"model\.width must be a finite number > 0; got inf"),
        ("training.epochs=0", r"training\.epochs must be > 0 and finite; got 0"),
        ("training.momentum=1.0", r"training\.momentum must be in \[0, 1\); got 1\.0"),
        ("measure.checkpoints=1", r"measure\.checkpoints must be a whole number >= 2; got 1"),
        ("measure.positions=0", r"measure\.positions must be a whole number >= 1; got 0"),
        ("measure.groups=1", r"measure\.groups must be a whole number >= 2; got 1"),
        ("measure.noise=0.0", r"measure\.noise must be > 0 and finite; got 0\.0"),
        ("measure.ridge=-0.1", r"measure\.ridge must be a finite number >= 0; got -0\.1"),
        ("measure.peers=0", r"measure\.peers must be a whole number >= 1; got 0"),
        ("measure.top=0", r"measure\.top must be a whole number >= 1; got 0"),
        ("measure.batch_size=0", r"measure\.batch_size must be a whole number >= 1; got 0"),
        ("measure.permutations=0", r"measure\.permutations must be a whole number >= 1; got 0"),
        ("lesion.images=1", r"lesion\.images must be a whole number >= 2; got 1"),
        ("lesion.random_draws=0", r"lesion\.random_draws must be a whole number >= 1; got 0"),
        ("pruning.images=1", r"pruning\.images must be a whole number >= 2; got 1"),
        ("pruning.report=-1", r"pruning\.report must be a whole number >= 0; got -1"),
        ("pruning.batch_size=0", r"pruning\.batch_size must be a whole number >= 1; got 0"),
        ("pruning.shares=[0.5, 1.5]", r"pruning\.shares must .*got 1\.5"),
        ("pruning.shares=[0.0]", r"pruning\.shares must .*got 0\.0"),
        ("pruning.draws=0", r"pruning\.draws must be a whole number >= 1; got 0"),
    ],
)
def test_bad_settings_are_named_in_one_line(override, message):
    with pytest.raises(ValueError, match=f"^{message}[^\n]*$"):
        read_config(SMALL, [override])


def test_every_problem_has_its_line():
    with pytest.raises(ValueError, match="width") as refused:
        read_config(SMALL, ["model.width=0.0", "measure.tops=3", "seeds=[0, 0]"])
    assert len(str(refused.value).splitlines()) == 3


def test_a_bad_setting_stops_a_run_before_the_first_image(tmp_path, monkeypatch):
    monkeypatch.setattr("empirical.runs.steps.load_data", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(ValueError, match=r"pruning\.criteria must be one of"):
        twoaxis.run(SMALL, out=tmp_path, overrides=['pruning.criteria=["nonsense"]'])


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config '.*none\.toml' does not exist"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("seeds = [")
    with pytest.raises(ValueError, match="is not valid TOML"):
        read_config(tmp_path / "broken.toml")
    with pytest.raises(ValueError, match=r"config must set training\.epochs"):
        read_config({"training": {"batch_size": 8}})


def test_ready_configurations_are_valid(pytestconfig):
    files = sorted((pytestconfig.rootpath / "scripts").glob("*.toml"))
    assert len(files) >= 10
    for file in files:
        assert read_config(file).measure.checkpoints >= 10


def test_options_and_factors_are_keywords_of_what_they_configure():
    config = read_config(SMALL, ["pruning.shares=[0.5]", "measure.positions=3"])
    assert config.measure.options()["positions"] == 3
    assert not {"checkpoints", "epochs", "batch_size", "permutations"} & set(
        config.measure.options()
    )
    assert Factorial(**config.pruning.factors()) == Factorial(shares=(0.5,), draws=5)


# --- printed --------------------------------------------------------------------------------------


@given(
    st.builds(
        dict,
        title=st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])),
        seeds=st.lists(st.integers(0, 2**40), min_size=1, unique=True),
        data=st.fixed_dictionaries(
            {"source": st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]))},
            optional={"image_size": st.integers(1, 999), "selection": st.floats(0, 0.99)},
        ),
        measure=st.fixed_dictionaries(
            {
                "target": st.sampled_from(sorted(TARGETS)),
                "noise": st.one_of(st.just("quantile:0.25"), st.floats(1e-300, 1e300)),
                "ridge": st.floats(0, 1e300),
                "hull": st.booleans(),
            }
        ),
        training=st.fixed_dictionaries({"epochs": st.floats(1e-12, 1e12)}),
        pruning=st.fixed_dictionaries(
            {"shares": st.lists(st.floats(1e-9, 1)), "criteria": st.just(["l2", "random"])}
        ),
    )
)
def test_a_printed_configuration_reads_back_equal(settings):
    config = read_config(settings)
    assert read_config(tomllib.loads(to_toml(config))) == config


def test_every_setting_is_printed_under_its_sentence():
    lines = to_toml(RunConfig()).splitlines()
    keys = [number for number, line in enumerate(lines) if " =" in line]
    assert len(keys) == 3 + 6 + 3 + 16 + 17 + 4 + 10
    for number in keys:
        assert lines[number - 1].startswith("# "), lines[number]
        assert lines[number - 1].endswith("."), lines[number]


def test_the_command_shows_a_configuration_with_its_overrides(tmp_path):
    shown = CliRunner().invoke(twoaxis.app, ["run", "--show"])
    assert read_config(tomllib.loads(shown.output)) == RunConfig()
    file = tmp_path / "c.toml"
    file.write_text("seeds = [4]\n[model]\nwidth = 2.0\n")
    options = ["--set", "model.name=vgg16", "--data", 'a "b"', "--device", "cpu"]
    shown = CliRunner().invoke(twoaxis.app, ["run", "--show", str(file), *options])
    config = read_config(tomllib.loads(shown.output))
    assert config == read_config(
        {
            "seeds": [4],
            "device": "cpu",
            "data": {"source": 'a "b"'},
            "model": {"width": 2.0, "name": "vgg16"},
        }
    )
    with pytest.raises(ValueError, match=r"CONFIG must be a TOML file; none is named.*--show"):
        CliRunner().invoke(twoaxis.app, ["run"], catch_exceptions=False)
