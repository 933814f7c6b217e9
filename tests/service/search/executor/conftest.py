"""One local Ray for all tests of this folder: starting it takes seconds."""

import pytest


@pytest.fixture(scope="session")
def local_ray():
    from service.search.executor.ray_cluster import Cluster, WorkerShape

    cluster = Cluster(4, WorkerShape(), None)  # room for two executors of two workers
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def ray_executor(local_ray):
    from executor_fakes import fake_training

    from service.search.executor.ray_executor import RayExecutor

    executor = RayExecutor(2, training=fake_training)
    yield executor
    executor.close()
