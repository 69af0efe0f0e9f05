"""Forms that set what pushes of a tenant's jobs may do in a repository."""

from __future__ import annotations

from django import forms

from myctobot.contract.runner import PushPolicy
from myctobot.errors import InvalidRequest
from myctobot.tenants.models import RepositoryPolicy, Tenant
from myctobot.tenants.repository_policies import parse_repository

# A URL may be longer than the name that it becomes.
MAX_REPOSITORY_LENGTH = 2000


class PolicyForm(forms.Form):
    """Rights of pushes to one repository."""

    allow_ci_files = forms.BooleanField(
        required=False,
        label="Change CI files",
        help_text="Such as .github/workflows/ or .gitlab-ci.yml. A CI server runs these files with the repository's "
        "own rights and secrets.",
    )
    allow_default_branch = forms.BooleanField(
        required=False,
        label="Push to the default branch",
        help_text="Without this right, a job pushes only to other branches, so that people can review its work first.",
    )

    @property
    def policy(self) -> PushPolicy:
        """Return the rights of a form whose fields are valid."""
        data = self.cleaned_data
        return PushPolicy(allow_ci_files=data["allow_ci_files"], allow_default_branch=data["allow_default_branch"])

    @classmethod
    def initial_of(cls, row: RepositoryPolicy) -> dict[str, bool]:
        """Return the present rights for the fields."""
        return {"allow_ci_files": row.allow_ci_files, "allow_default_branch": row.allow_default_branch}


class NewPolicyForm(PolicyForm):
    """Repository without a policy, and its rights."""

    repository = forms.CharField(
        max_length=MAX_REPOSITORY_LENGTH, help_text="Host and path, such as github.com/user/repo, or the URL."
    )
    field_order = ("repository", "allow_ci_files", "allow_default_branch")

    def __init__(self, tenant: Tenant, data: object = None, initial: dict[str, str] | None = None) -> None:
        super().__init__(data, initial=initial)  # type: ignore[arg-type]  # the stubs do not export their type
        self._tenant = tenant

    def clean_repository(self) -> str:
        try:
            name = parse_repository(self.cleaned_data["repository"])
        except InvalidRequest as error:
            raise forms.ValidationError(error.fields["repository"]) from error
        if RepositoryPolicy.objects.filter(tenant=self._tenant, repository=name).exists():
            raise forms.ValidationError("This repository has a policy. Choose it in the list to change it.")
        return name
