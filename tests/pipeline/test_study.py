"""`evaluate --report` of a real shop: the study holds together, and Chromium shows its page without a complaint, at any width and in any scheme."""

# bazel: size=large

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.config import PipelineConfig, load_pipeline
from core.errors import InputError
from core.prepared import LAST_TWIN, TWIN, Prepared
from core.release import RANKER, STATISTICS
from core.work import Work
from data_prep.prepare import run as prepare
from data_prep.simulate.options import ShopOptions
from data_prep.simulate.run import simulate
from evaluation.page import page
from pipeline.evaluate import measure
from pipeline.publish import Parts, assemble
from pipeline.study import FACTORS, before_of, study
from pipeline.twin import release_settings
from ranking import item_statistics
from ranking.train import grow
from retrieval import quotas
from retrieval.fit import fit_sources
from retrieval.sources import open_sources
from tests.pipeline.small_shop import noise, small_release

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SAMPLE = 40


@dataclass(frozen=True)
class Judged:
    """A twin of a small shop, what was measured of it, and its study."""

    twin: Path
    prepared: Prepared
    config: PipelineConfig
    work: Work
    figures: dict[str, Any]

    @property
    def study(self) -> dict[str, Any]:
        return dict(self.figures["study"])


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    root = tmp_path_factory.mktemp("judged")
    simulate(ShopOptions(users=200, items=120, events=6_000, days=60, seed=3, start=dt.date(2024, 1, 1)), root / "shop")
    config, work = load_pipeline(None), Work(root / "work")
    prepared = Prepared(prepare(root / "shop", work, config, lambda _: None))
    sources, ranker = work.root / "parts" / "sources", work.root / "parts" / "ranker"
    fit_sources(prepared, TWIN, config, sources / TWIN.name, lambda _: None)
    names = [s.name for s in open_sources(sources / TWIN.name)]
    (sources / "weights.json").write_text(json.dumps(dict.fromkeys(names, 1.0)))
    (sources / quotas.FILE).write_text(json.dumps(dict.fromkeys(names, 30)))
    item_statistics.write(prepared, TWIN, config.sources.recent_days, ranker / STATISTICS / TWIN.name)
    grow([noise()], 3, config.ranker).write(ranker / RANKER / TWIN.name, names, {})
    twin = root / "twin"
    assemble(twin, prepared, Parts(sources, ranker=ranker), TWIN, release_settings(sources, config), {})
    figures = measure(twin, prepared, TWIN, "keep", config, lambda _: None)
    before = before_of(work, prepared, TWIN, None)
    figures["study"] = study(twin, prepared, TWIN, "keep", config, before, SAMPLE, lambda _: None)
    return Judged(twin, prepared, config, work, figures)


def test_the_study_holds_together(judged: Judged) -> None:
    found = judged.study
    assert (found["queries"], found["sampled_from"]) == (SAMPLE, judged.figures["queries"])
    assert [c["factor"] for c in found["costs"]] == list(FACTORS)
    candidates, recall = ([c[k] for c in found["costs"]] for k in ("candidates", "recall"))
    assert candidates == sorted(candidates)  # larger quotas propose more ...
    assert [r["mean"] for r in recall] == sorted(r["mean"] for r in recall)  # ... and contain what smaller ones do
    served = found["costs"][FACTORS.index(1.0)]
    assert served["ndcg@10"] == found["ndcg@10"]
    assert set(found["sources"]) == set(judged.figures["funnel"]["sources"])
    assert sum(g["gain_share"] for g in found["feature_groups"].values()) == pytest.approx(1, abs=1e-5)
    for kind in ("history_length", "level", "country"):  # each person in one segment
        assert sum(part["queries"] for part in found["segments"].get(kind, {}).values()) in (0, SAMPLE)
    for groups in found["exposure"].values():
        for share in ("items", "wanted"):
            assert sum(g[share] for g in groups.values()) == pytest.approx(1, abs=1e-4)
        assert sum(g["shown"]["mean"] for g in groups.values()) == pytest.approx(1, abs=1e-4)
    assert found["index"]["lost"] == 0  # such a small index is searched exactly, or there are no towers
    misses = found["misses"]
    assert misses["better"] + misses["same"] + misses["worse"] == SAMPLE
    assert all(sum(m["places"]) == m["wanted"] >= m["missed"] for m in misses["items"])


def test_the_same_seed_gives_the_same_study_but_for_the_clock(judged: Judged) -> None:
    before = before_of(judged.work, judged.prepared, TWIN, None)
    again = study(judged.twin, judged.prepared, TWIN, "keep", judged.config, before, SAMPLE, lambda _: None)

    def still(found: dict[str, Any]) -> dict[str, Any]:
        return found | {"costs": [{k: v for k, v in c.items() if k != "cpu_ms"} for c in found["costs"]]}

    assert still(again) == still(judged.study)


def test_a_champion_that_knows_the_answers_is_no_rival(judged: Judged, tmp_path: Path) -> None:
    assert before_of(judged.work, judged.prepared, TWIN, None).what == "blend"  # there is none
    # the twin ends where the window begins: a fair champion, and as good as itself
    fair = before_of(judged.work, judged.prepared, TWIN, judged.twin)
    assert fair.what == "champion"
    itself = study(judged.twin, judged.prepared, TWIN, "keep", judged.config, fair, 20, lambda _: None)
    assert itself["ndcg@10_difference"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    with pytest.raises(InputError, match="last cuts each person's own events"):
        before_of(judged.work, judged.prepared, LAST_TWIN, judged.twin)
    work = Work(tmp_path / "work")
    release = small_release(judged.work.root.parent / "shop", work, judged.config)
    unfair = before_of(work, judged.prepared, TWIN, None)
    assert (unfair.what, "knows of events up to" in unfair.why) == ("blend", True)
    with pytest.raises(InputError, match=r"--champion: .* knows of events up to"):
        before_of(work, judged.prepared, TWIN, release)


@pytest.fixture(scope="module")
def report(judged: Judged, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "out.html"
    path.write_text(page({"global": judged.figures}, {"global": "A small shop."}, judged.config.evaluation))
    return path


def test_the_page_fetches_nothing(report: Path) -> None:
    text = report.read_text()
    assert "default-src 'none'" in text
    assert not re.search(r'(?:src|href)="(?!#|data:)|@import|url\(|<script', text)


def test_names_of_the_shop_are_text(judged: Judged) -> None:
    found = json.loads(json.dumps(judged.figures))
    found["study"]["examples"][0]["history"] = ["<img src=x onerror=alert(1)>"]
    text = page({"global": found}, {"global": "<b>"}, judged.config.evaluation)
    assert "<img" not in text
    assert "&lt;img src=x" in text


def test_a_page_without_a_study(judged: Judged) -> None:
    figures = {k: v for k, v in judged.figures.items() if k != "study"}
    text = page({"global": figures}, {"global": "A small shop."}, judged.config.evaluation)
    assert "Against baselines" in text
    assert "What each source brings" not in text


def chromium(*options: str) -> str:
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--enable-logging=stderr",
    ]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "CONSOLE" not in done.stderr, done.stderr[-2000:]
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_is_wider_than_the_window(report: Path, tmp_path: Path, width: int) -> None:
    """A frame of that width holds the page; what it measures is in the title of the page around it."""
    around = tmp_path / "around.html"
    around.write_text(
        f'<iframe id=f width={width} height=900 src="{report.as_uri()}"></iframe><script>'
        "f.onload=()=>{const d=f.contentDocument.documentElement;"
        "document.title=JSON.stringify([d.scrollWidth,d.clientWidth,d.scrollHeight])}</script>"
    )
    dom = chromium(f"--window-size={width + 100},1000", "--allow-file-access-from-files", "--dump-dom", around.as_uri())
    scroll, client, height = json.loads(re.findall(r"<title>(.*?)</title>", dom)[0])
    assert scroll <= client
    assert height > 3_000  # the page is there


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_light_dark_and_paper(report: Path, tmp_path: Path) -> None:
    from matplotlib.image import imread

    shots = {}
    for scheme, number in (("dark", 0), ("light", 1)):
        out = tmp_path / f"{scheme}.png"
        chromium(
            "--window-size=1000,2000",
            f"--blink-settings=preferredColorScheme={number}",
            f"--screenshot={out}",
            report.as_uri(),
        )
        shots[scheme] = imread(out)[..., :3]
    # the paper is what most of the picture is; some of it is neither paper nor ink
    assert np.median(shots["light"]) > 0.9
    assert np.median(shots["dark"]) < 0.2
    for shot in shots.values():
        colourful = (shot.max(-1) - shot.min(-1)) > 0.3
        assert 0.001 < colourful.mean() < 0.5
    paper = tmp_path / "paper.pdf"
    chromium(f"--print-to-pdf={paper}", "--no-pdf-header-footer", report.as_uri())
    assert paper.read_bytes().startswith(b"%PDF")
    assert paper.read_bytes().count(b"/Type /Page") >= 3
