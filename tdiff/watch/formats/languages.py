"""Words of other languages for the few things that a log of training names, as English words.

A small table: the loss, validation and training, steps, epochs, totals, the learning rate, and the words that mark a
value as the best so far. A word that is not in it stays as it is, and an unknown word beside `loss` keeps that value
from being drawn as the loss.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from tdiff.patterns import lazy

_PHRASES = {
    "learning rate": "taux d'apprentissage, taux d apprentissage, tasa de aprendizaje, taxa de aprendizado,"
    "taxa de aprendizagem, tasso di apprendimento, скорость обучения, шаг обучения, темп обучения, 学习率, 學習率,"
    "学習率, lernrate, leersnelheid, leertempo",
    "validation loss": "perte de validation, perdida de validacion, perda de validacao, perdita di validazione,"
    "validierungsverlust, validatieverlies, validationsverlust",
    "training loss": "perte d'entrainement, perte d'apprentissage, perdida de entrenamiento, perda de treino,"
    "perda de treinamento, perdita di addestramento, trainingsverlust, trainingsverlies",
    "test loss": "testverlust, testverlies",
    "total loss": "gesamtverlust",
    "loss": "损失值, 损失函数, 损失, 損失, ロス, функция потерь, потери, потеря, потерь, лосс, verlust, verlies, perte,"
    "perdida, perda, perdita",
    "train": "训练, 訓練, 学習, トレーニング, обучение, обучения, обучающая, тренировка, entrainement,"
    "apprentissage, entrenamiento, treino, treinamento, addestramento, trainieren",
    "validation": "验证集, 验证, 驗證, 検証, バリデーション, валидация, валидации, валидационная, валидационные,"
    "проверка, проверочная, validierung, validacion, validacao, validazione, validatie",
    "test": "测试, 測試, テスト, тест, тестовая, prueba",
    "total steps": "总步数, 總步數, 总迭代, 総ステップ数, 総ステップ, всего шагов",
    "epochs": "总轮数, 总轮次, 総エポック数, всего эпох, gesamtepochen, epochen,epoques, epocas, tijdperken",
    "step": "步数, 步骤, 步, ステップ数, ステップ, 迭代次数, 迭代, イテレーション, шаг, итерация, schritt, pas, paso,"
    "passo, stap, etape, iteracion, iteracao, iterazione, iteratie, schrittnummer",
    "steps": "шагов, шаги, итераций, schritte, schritten, pasos, passos, passi, stappen, etapes, iterationen,"
    "iteraciones, iteracoes, iterazioni, iteraties",
    "epoch": "轮次, 轮数, 轮, 輪, エポック, эпоха, epoche, epoque, epoca, tijdperk",
    "total": "总共, 总, 總, 合計, 総, всего, gesamt, insgesamt, totale, totaal, totales, totais",
    "average": "平均, средний, средняя, средние, mittlerer, durchschnittlicher, moyenne, medio, media, gemiddeld",
    "best": "最佳, 最好, 最优, 最低, 最小, 最良, лучший, лучшая, лучшие, минимальная, bester, beste, bestes, kleinster,"
    "kleinste, niedrigster, meilleur, meilleure, mejor, melhor, migliore, minimale, minima, minimo, laagste",
    "max": "最大, 最高",
    "number": "nombre, numero, anzahl, aantal, число, количество",
    "set": "集, セット",
    "of": "的, の, на, при, de, du, des, di, della, do, da, d', von, der, des, sur, op",
}
"""English words -> how other languages say them, without accents."""
_IDEOGRAPH = lazy(r"[\u3040-\u30ff\u3400-\u9fff]")
_ENGLISH = {spelled.strip(): english for english, names in _PHRASES.items() for spelled in names.split(",")}
_ASCII_WORD = lazy(r"[^\W_]+")
_ELISION = lazy(r"\b[dl]'(?=[a-z]{3})(?!apprentissage\b|entrainement\b)", re.IGNORECASE)


@cache
def _foreign() -> re.Pattern[str]:
    """Any of the names; it takes 20 ms to compile, which only names that may contain one need."""
    return re.compile(
        "|".join(
            re.escape(name) if _IDEOGRAPH.search(name) else rf"(?<![^\W_]){re.escape(name)}(?![^\W_])"
            for name in sorted(_ENGLISH, key=len, reverse=True)
        ),
        re.IGNORECASE,
    )


@cache
def _first_words() -> frozenset[str]:
    """The first word of each name in ASCII."""
    return frozenset(_ASCII_WORD.findall(name)[0] for name in _ENGLISH if name.isascii())


def in_english(name: str) -> str:
    """A name with the words that the table knows in English, without accents."""
    if not name.isascii():
        name = unicodedata.normalize("NFKC", name)
        name = "".join(map(_without_accent, name))
    name = _ELISION.sub(" of ", name) if "'" in name else name
    if name.isascii() and _first_words().isdisjoint(_ASCII_WORD.findall(name.lower())):
        return name
    return _foreign().sub(lambda word: f" {_ENGLISH[word[0].lower()]} ", name)


def _without_accent(letter: str) -> str:
    """A Latin letter without its accents; any other as it is."""
    if letter.isascii() or "LATIN" not in unicodedata.name(letter, ""):
        return "'" if letter == "\u2019" else letter
    return unicodedata.normalize("NFKD", letter)[0] if letter != "ß" else "ss"
