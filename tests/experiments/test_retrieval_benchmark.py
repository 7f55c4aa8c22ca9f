import pytest

from rissole.config import RissoleError
from rissole.experiments.retrieval_benchmark import measure_index


def test_benchmark_of_synthetic_entries(pipe, tmp_path):
    report = measure_index(pipe, 3000, tmp_path)
    assert report["entries"] == 3000
    assert report["recall_at_8_of_new_queries"] > 0.99  # so few are compared one by one
    assert 0 < report["ms_per_query"] <= report["ms_per_query_p95"]
    assert report["latents_mb"] == pytest.approx(3000 * 4 * 32 * 32 * 2 / 1e6, abs=0.1)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RissoleError, match="1000 entries at least"):
        measure_index(pipe, 10, tmp_path)
    with pytest.raises(RissoleError, match="GB of disk"):
        measure_index(pipe, 10**10, tmp_path)
