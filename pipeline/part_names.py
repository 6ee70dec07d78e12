"""Whether every part that the settings name is there, asked before any work. Knows the lists, not what is in them."""

from core.setting_names import named
from core.training_config import PipelineConfig
from models.feed_forward import ACTIVATIONS, FEED_FORWARDS
from models.normalization import NORMS
from training.optimizer import OPTIMIZERS
from training.preference_loss import PREFERENCE_LOSSES
from training.schedules import SCHEDULES


def check_part_names(config: PipelineConfig) -> None:
    """Refuse a name that no list has.

    Raises:
        ConfigError: the setting, the names there are, and the nearest of them.
    """
    model = config.model
    named(model.activation, ACTIVATIONS, setting="model.activation", place="models.feed_forward.ACTIVATIONS")
    named(
        model.feed_forward_name,
        FEED_FORWARDS,
        setting="model.feed_forward",
        place="models.feed_forward.FEED_FORWARDS",
    )
    named(model.norm_name, NORMS, setting="model.norm", place="models.normalization.NORMS")
    named(
        config.preference.loss,
        PREFERENCE_LOSSES,
        setting="preference.loss",
        place="training.preference_loss.PREFERENCE_LOSSES",
    )
    for section, settings in (
        ("training", config.training),
        ("instruction", config.instruction),
        ("preference", config.preference),
    ):
        named(
            settings.optimizer,
            OPTIMIZERS,
            setting=f"{section}.optimizer",
            place="training.optimizer.OPTIMIZERS",
        )
        named(
            settings.schedule,
            SCHEDULES,
            setting=f"{section}.schedule",
            place="training.schedules.SCHEDULES",
        )
