"""W24: a model that is trained to predict the next token does not see it.

Whether it does is known from the gradient of one position's scores to the embeddings. Autoencoders, taggers, masked
and prefix language models see later tokens on purpose: their targets are no shifted inputs, or a summary of the whole
sequence lies between.
"""

from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.bounded_memory import Occurrences
from covlab.watch.seen.look_ahead import NEGLIGIBLE, Dependence


class NoLookAhead(Invariant):
    title = "a prediction of the next token does not see it"
    rank = 35
    needs = ("backward", "look ahead")
    fix = (
        "mask later positions: is_causal=True or an attention mask of the upper triangle; no bidirectional layer, and "
        "convolutions padded on the left only"
    )
    fix_shift = "shift by one: compare the scores logits[:, :-1] with the targets ids[:, 1:]"

    meaning = """
        A model that learns to predict the next token must not see it. If the mask is missing or transposed, the loss
        falls quickly to almost nothing, and the model is useless for generating.
    """
    example = """
        import torch
        import torch.nn.functional as F

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.embed, self.out = torch.nn.Embedding(13, 16), torch.nn.Linear(16, 13)

            def forward(self, ids):
                h = self.embed(ids)[:, None]
                return self.out(h + F.scaled_dot_product_attention(h, h, h))[:, 0]  # not is_causal=True

        model = Model()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(20):
            ids = torch.randint(13, (6, 8))
            loss = F.cross_entropy(model(ids)[:, :-1].reshape(-1, 13), ids[:, 1:].reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """
    limits = """
        It asks the gradient of one position's scores which embeddings they depend on. Autoencoders, taggers, masked and
        prefix language models see later tokens on purpose: their targets are not the shifted inputs.
    """

    def find(self) -> Findings:
        for pairs in self.seen.dependences:
            self.checked += 1
            known = [one for one in pairs if max(one.past, one.own, one.future) > 0]
            shifted = [one for one in known if one.shift > 0]
            if shifted and all(_sees_its_target(one) for one in shifted):
                one = max(shifted, key=lambda each: max(each.own, each.future))
                says = (
                    f"the targets are the input shifted by {one.shift}, and the scores that predict token "
                    f"{one.position + 1} of {one.length} depend on that token or later ones: the model sees what it "
                    "should predict"
                )
                yield self.found(Occurrences(one.location, 1, one.step, one.step), "fault", says, number=None)
            elif known and not shifted and all(_copies(one) for one in known):
                one = known[0]
                says = (
                    "the targets are the input itself, position by position, and the model is causal: each position "
                    "sees the token that it should predict"
                )
                at = Occurrences(one.location, 1, one.step, one.step)
                yield self.found(at, "warning", says, self.fix_shift, number=None)


def _sees_its_target(one: Dependence) -> bool:
    return max(one.own, one.future) > NEGLIGIBLE * max(one.past, one.own, one.future)


def _copies(one: Dependence) -> bool:
    """Return whether a causal model of sequences sees the very token that it is compared with."""
    largest = max(one.past, one.own)
    return one.future <= NEGLIGIBLE * largest and min(one.past, one.own) > NEGLIGIBLE * largest
