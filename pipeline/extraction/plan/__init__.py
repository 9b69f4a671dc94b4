"""Estimates what an extraction would take, and which of its stages limits it. Nothing that it writes stays."""

from pipeline.extraction.plan.model_plan import ModelPlan, plan_models
from pipeline.extraction.plan.notes import labelled_coverage, warnings

__all__ = ["ModelPlan", "labelled_coverage", "plan_models", "warnings"]
