"""Learning rules: from a net, its parameters and a batch to one update per layer."""

from trainers.learning_rules.alone import rule_updates
from trainers.learning_rules.interface import Lanes, LearningRule
from trainers.learning_rules.making import make_rule
from trainers.learning_rules.net import Net, Pass, Updates

__all__ = ["Lanes", "LearningRule", "Net", "Pass", "Updates", "make_rule", "rule_updates"]
