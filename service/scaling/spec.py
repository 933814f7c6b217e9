"""Scaling studies that isoflop runs itself: what to study, what it costs, and running it."""

from service.scaling.planning import StudyPlan, plan_study
from service.scaling.running import extend_study, resume_study, run_study
from service.scaling.study_points import study_points, tuning_frame
from service.scaling.study_spec import StudySpec
from service.scaling.verification import Prediction, Verification, run_verification, verifications

__all__ = [
    "Prediction",
    "StudyPlan",
    "StudySpec",
    "Verification",
    "extend_study",
    "plan_study",
    "resume_study",
    "run_study",
    "run_verification",
    "study_points",
    "tuning_frame",
    "verifications",
]
