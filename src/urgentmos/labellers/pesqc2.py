"""PESQ with Corrigendum 2 (ITU-T P.862, 03/2018): the wide-band input filter is 12 dB lower, all else is PESQ.

Its values are not interchangeable with PESQ's (0.8 MOS higher on average); narrow-band values are identical.
"""

from urgentmos.labellers import Measure, Settings
from urgentmos.labellers.pesq import measurer


def load(settings: Settings) -> Measure:
    return measurer("pesqc2", "pesqc2")
