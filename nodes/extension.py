"""The list of nodes that ComfyUI asks for."""
# pyright: reportMissingImports=false

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .create_probe import CreateProbe
from .encoders import DownloadEncoders
from .host.folders import register_probe_folder
from .host.prompt_hook import register_prompt_hook
from .inject import InjectSubjectTokens
from .instant import ApplyInstantSubject, LoadInstantAdapter, ReadReferences
from .make_probe import MakeProbe
from .mappers import MapperWords
from .miniature import LoadMiniatureWorld, MiniatureCreature
from .personalize import PersonalizeSubject
from .polish import PolishSubject
from .probe import ExtractFeatures, LoadProbe
from .probe_free import ProbeFreeStart, RefineSubject
from .refine import RefineEmbedding
from .subject_files import LoadSubject, SaveSubject
from .train import TrainSubject
from .weights import ApplyWeights, FinetuneWeights, LoadHypernetwork, LoadWeights, PredictWeights, SaveWeights


class HybridBooth(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        register_probe_folder()
        register_prompt_hook()
        return [
            PersonalizeSubject,
            LoadMiniatureWorld,
            MiniatureCreature,
            LoadProbe,
            CreateProbe,
            DownloadEncoders,
            ExtractFeatures,
            RefineEmbedding,
            ProbeFreeStart,
            MapperWords,
            RefineSubject,
            InjectSubjectTokens,
            SaveSubject,
            LoadSubject,
            PolishSubject,
            TrainSubject,
            MakeProbe,
            LoadHypernetwork,
            PredictWeights,
            FinetuneWeights,
            ApplyWeights,
            SaveWeights,
            LoadWeights,
            LoadInstantAdapter,
            ReadReferences,
            ApplyInstantSubject,
        ]
