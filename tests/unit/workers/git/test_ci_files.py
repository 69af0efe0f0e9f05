from __future__ import annotations

import pytest

from workers.git.ci_files import canonical, is_ci_path


@pytest.mark.parametrize(
    "path",
    [
        ".github/workflows/a.yml", ".github/workflows", ".github", ".github/actions/x/action.yml",
        ".gitea/workflows/a.yml", ".forgejo/workflows/a.yml", ".gitlab-ci.yml", "sub/.gitlab-ci.yml", "x.gitlab-ci.yml",
        ".gitlab/ci/a.yml", "Jenkinsfile", "sub/Jenkinsfile.release", "deploy.jenkinsfile", ".circleci/config.yml",
        "azure-pipelines.yml", "ops/azure-pipelines-1.yaml", ".woodpecker.yml", ".woodpecker/test.yml", ".drone.yml",
        ".drone.star", "bitbucket-pipelines.yml", ".buildkite/pipeline.yml", "buildspec.yml", "cloudbuild.yaml",
        ".travis.yml", "appveyor.yml", ".cirrus.star", "bamboo-specs/bamboo.yml", ".tekton/pull.yaml", ".builds/a.yml",
        "JENKINSFILE", ".GitHub/WORKFLOWS/x", ".github./workflows /x", ".git\u200chub/workflows/x", "Jenkinsfile/x",
        "JEN\u212aINSFILE",
    ],
)  # fmt: skip
def test_ci_files(path: str) -> None:
    assert is_ci_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "README.md", ".github/CODEOWNERS", ".github/ISSUE_TEMPLATE/bug.md", "src/jenkins.py", "docs/.github.md",
        "templates/.github/workflows/a.yml", ".gitlab/CODEOWNERS", "src/buildspec.py", "my-azure-pipelines.md",
        "Jenkinsfiles.md", "github/workflows/x",
    ],
)  # fmt: skip
def test_other_files(path: str) -> None:
    assert not is_ci_path(path)


def test_a_path_counts_below_above_and_at_the_target_of_a_link() -> None:
    assert all(is_ci_path(path, {"ci/real"}) for path in ("ci", "CI/real", "ci/real/a.yml"))
    assert not any(is_ci_path(path, {"ci/real"}) for path in ("ci/other", "ci/realistic", "c"))
    assert is_ci_path("anything", {"."})


def test_dots_alone_stay_in_a_canonical_path() -> None:
    assert canonical("a/../B") == "a/../b"
