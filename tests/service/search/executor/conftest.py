import pytest


@pytest.fixture(scope="module")
def ray_executor(local_ray):
    from executor_fakes import fake_training

    from service.search.executor.ray_executor import RayExecutor

    executor = RayExecutor(2, training=fake_training)
    yield executor
    executor.close()
