"""The corrected version of every faulty textbook loop, as a difference.

``CORRECTIONS`` {name of the loop: what the advice of its finding changes}, in the notation of ``diff``. An empty line
separates hunks, and each changes one position in the loop or in a function it calls. ``corrected(name)`` returns the
corrected loop.
"""

import inspect
import linecache
from collections.abc import Callable

import watch_faulty

CORRECTIONS = {
    "missing_division": """
-            loss.backward()
+            (loss / 4).backward()
""",
    "division_in_debug_block": """
-            if epoch == 0 and number == 0:
-                loss = loss / 4
+            loss = loss / 4
""",
    "short_window_by_full_count": """
-            (F.cross_entropy(model(x), y) / 4).backward()
+            (F.cross_entropy(model(x), y) / (4 if number <= 12 else 3)).backward()
""",
    "nested_in_debug_block": """
-            if debug:
-                loss.backward()
-                optimizer.step()
-                optimizer.zero_grad()
+            loss.backward()
+            optimizer.step()
+            optimizer.zero_grad()

-    log(0.0)
+    log(loss.item())
""",
    "last_batch_only": """
-        loss.backward()
+            loss.backward()
""",
    "running_sum_in_step_branch": """
+            running += loss.item()
             if number % 4 == 0:
-                running += loss.item()
""",
    "gate_wants_every_group": """
-        if all(math.isfinite(norm) and norm > 0 for norm in norms):
+        if all(math.isfinite(norm) for norm in norms):
""",
    "schedule_per_micro_batch": """
             optimizer.step()
+            schedule.step()
             optimizer.zero_grad()
-        schedule.step()
""",
    "schedule_per_epoch": """
-        schedule.step()
+            schedule.step()
""",
    "warmup_from_zero": """
-lambda step: min(1.0, step / 4)
+lambda step: min(1.0, (step + 1) / 4)
""",
    "schedule_on_skipped_step": """
+        was = scaler.get_scale()
         scaler.update()
-        if advance:
+        if scaler.get_scale() >= was:
""",
    "sanitize_before_unscale": """
-    half(before=sanitize)
+    half()
""",
    "sanitize_after_unscale": """
-    half(unscaled=sanitize)
+    half()
""",
    "clip_before_unscale": """
-        if clip_early:
-            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
         scaler.unscale_(optimizer)
+        if clip_early:
+            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
""",
    "scale_updated_inside_window": """
-        if update_always:
-            scaler.update(scaler.get_scale() * 1.01)
""",
    "sanitize_without_scaler": """
-        for parameter in model.parameters():
-            parameter.grad = torch.nan_to_num(parameter.grad, nan=0.0, posinf=1.0, neginf=-1.0)
-        optimizer.step()
+        if all(parameter.grad.isfinite().all() for parameter in model.parameters()):
+            optimizer.step()
""",
    "nan_loss_sanitized": """
-        loss = torch.nan_to_num(loss, nan=0.0)
""",
    "overflow_probe_wrong_key": """
-        found = scaler._per_optimizer_states[optimizer]["found_inf_per_device"]
-        if sum(found.values()) == 0:
-            optimizer.step()
+        scaler.step(optimizer)
""",
    "main_weight_zero": """
-weights.get("lambda_cov", 0.0)
+weights["lam_cov"]
""",
    "gradient_through_singular_vectors": """
-out.mT @ out * 0 + torch.eye(4)
+out.mT @ out + torch.eye(4)
""",
    "validation_in_training": """
-    training = batches(16)
+    training, held_out = batches(16)[:12], batches(16)[12:]

-training[3:7]
+held_out
""",
    "loss_inside_autocast": """
-            loss = (out @ out.mT / 4).square().mean() + F.cross_entropy(out, y)
+        loss = (out @ out.mT / 4).square().mean() + F.cross_entropy(out, y)
""",
    "swallowed_exception": """
-        try:
-            loss = loss + 0.1 * out.square.mean()
-        except Exception:
-            pass
+        loss = loss + 0.1 * out.square().mean()
""",
    "cleared_inside_window": """
-        optimizer.zero_grad()

             optimizer.step()
+            optimizer.zero_grad()
""",
    "leftover_dropped": """
-            (F.cross_entropy(model(x), y) / 4).backward()
-            if number % 4 == 0:
+            (F.cross_entropy(model(x), y) / (4 if number <= 12 else 3)).backward()
+            if number % 4 == 0 or number == 15:
""",
    "never_cleared": """
     for x, y in batches(14):
+        optimizer.zero_grad()
""",
    "stale_optimizer": """
-    optimizer = adamw(model)
     model = network(seed=1)
+    optimizer = adamw(model)
""",
    "head_forgotten": """
-adamw(model[0])
+adamw(model)
""",
    "cut_graph": """
-torch.tensor(self.backbone(x).tolist())
+self.backbone(x)
""",
    "stays_in_evaluation_mode": """
             sum(F.cross_entropy(model(x), y) for x, y in held_out)
+        model.train()
""",
    "evaluates_in_training_mode": """
+        model.eval()
         with torch.no_grad():
             sum(F.cross_entropy(model(x), y) for x, y in held_out)
+        model.train()
""",
    "rate_of_zero": """
-lambda step: step // 100
+lambda step: (step + 1) / 100
""",
    "half_without_scaler": """
+    scaler = torch.amp.GradScaler("cpu")
     for x, y in batches(14):

-        (F.cross_entropy(out, y) * 1e-6).backward()
-        optimizer.step()
+        scaler.scale(F.cross_entropy(out, y) * 1e-6).backward()
+        scaler.step(optimizer)
+        scaler.update()
""",
    "batch_statistics_accumulated": """
-nn.BatchNorm1d(16)
+nn.GroupNorm(4, 16)
""",
    "detached_output": """
-        out = model(x).detach().requires_grad_()
+        out = model(x)
""",
    "loss_made_anew": """
-torch.tensor(F.cross_entropy(model(x), y).item(), requires_grad=True)
+F.cross_entropy(model(x), y)
""",
    "generator_behind_detach": """
-        fake = generator(torch.randn(len(x), 4)).detach()
+        fake = generator(torch.randn(len(x), 4))

-        (critic(fake).mean() - critic(x).mean()).backward()
+        (critic(fake.detach()).mean() - critic(x).mean()).backward()
""",
    "no_backward": """
-        F.cross_entropy(model(x), y)
+        F.cross_entropy(model(x), y).backward()
""",
    "cleared_before_step": """
-        clear(model, optimizer)
         optimizer.step()
+        clear(model, optimizer)
""",
    "cleared_to_zeros_before_step": """
-        clear(model, optimizer)
         optimizer.step()
+        clear(model, optimizer)
""",
    "divided_twice": """
-            for parameter in model.parameters():
-                parameter.grad /= 4
""",
    "one_of_two_losses_undivided": """
-        F.cross_entropy(model(x), y).backward()
+        (F.cross_entropy(model(x), y) / 4).backward()
""",
    "stepped_beside_the_scaler": """
-        optimizer.step()
+        scaler.step(optimizer)
+        scaler.update()
""",
}


def apply(correction: str, source: str) -> str:
    """Apply the hunks of ``correction``; ValueError if the old side of one is not found exactly once in ``source``."""
    for hunk in correction.strip("\n").split("\n\n"):
        old, new = ("\n".join(line[1:] for line in hunk.split("\n") if line[0] in signs) for signs in (" -", " +"))
        if source.count(old) != 1:
            raise ValueError(f"expected these lines once in the loop, found them {source.count(old)} times:\n{old}")
        source = source.replace(old, new)
    return source


def corrected(name: str) -> Callable[..., None]:
    """Return the faulty loop ``name`` without its bug."""
    loop = watch_faulty.FAULTY[name][0]
    called = [
        vars(watch_faulty)[one] for one in loop.__code__.co_names if inspect.isfunction(vars(watch_faulty).get(one))
    ]
    called = [one for one in called if one.__module__ == watch_faulty.__name__]
    source = apply(CORRECTIONS[name], "\n".join(inspect.getsource(function) for function in (*called, loop)))
    file = f"{name}, corrected"
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
    names = {**vars(watch_faulty), "faulty": lambda *_: lambda function: function}
    exec(compile(source, file, "exec"), names)
    return names[name]
