import pytest
from google.rpc import code_pb2

from core.errors import AisleError
from serving.failures import POLICIES, Effect, Failure, StoreError


@pytest.mark.parametrize("failure", Failure)
def test_every_failure_has_a_policy_with_a_real_status(failure: Failure) -> None:
    policy = POLICIES[failure]
    assert code_pb2.Code.Value(policy.writing) > 0
    assert str(failure) in str(StoreError(failure, ""))
    assert policy.means in str(StoreError(failure, ""))


def test_what_fails_while_reading_never_aborts_an_answer() -> None:
    # met by writes only
    assert {f for f, p in POLICIES.items() if p.reading is Effect.ABORT} == {
        Failure.STREAM_FULL,
        Failure.NOT_DURABLE,
        Failure.SPOOL_FULL,
        Failure.CATALOG_LOG,
    }


def test_every_error_of_ours_has_a_canonical_status() -> None:
    def below(kind: type[AisleError]) -> set[type[AisleError]]:
        return {kind}.union(*(below(k) for k in kind.__subclasses__()))

    for kind in below(AisleError):
        assert code_pb2.Code.Value(kind.grpc_status) > 0, kind
