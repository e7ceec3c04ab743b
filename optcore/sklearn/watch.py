"""How scikit-learn's MLPs end: a callback of `optcore.train.fit`."""


class Watch:
    """After each epoch: the loss curve, validation scores, scikit-learn's rates, and its rule of when to stop.

    Parameters
    ----------
    est : MLP
        The estimator; its attributes are written.
    held_out : tuple, optional
        (X, y, sample_weight) to score.
    once : bool
        End after one epoch whatever came of it: `partial_fit`.
    """

    def __init__(self, est, held_out=None, once=False):
        self.est, self.held_out, self.once, self.best = est, held_out, once, None

    def on_epoch(self, run):
        """Record the epoch; return whether to stop."""
        est = self.est
        est.n_iter_ += 1
        est.t_ += run.n
        est.loss_ = run.history.epochs["loss"][-1]
        est.loss_curve_.append(est.loss_)
        self.say(f"Iteration {est.n_iter_}, loss = {est.loss_:.8f}")
        self.count(run)
        if est.solver == "sgd" and est.learning_rate == "invscaling":
            self.set_rate(run, est.learning_rate_init / (est.t_ + 1)**est.power_t)
        if self.once:
            return True
        return est._no_improvement_count > est.n_iter_no_change and self.ends(run)

    def count(self, run):
        """Count the epochs without an improvement of more than ``tol``."""
        est = self.est
        if self.held_out is None:
            value, best = -est.loss_, -est.best_loss_
            est.best_loss_ = min(est.best_loss_, est.loss_)
            worse = value < best + est.tol
        else:
            value, best = est._score(*self.held_out), est.best_validation_score_
            est.validation_scores_.append(value)
            self.say(f"Validation score: {value:f}")
            worse = value < best + est.tol
            if value > best:
                est.best_validation_score_, self.best = value, run.weights()
        est._no_improvement_count = est._no_improvement_count + 1 if worse else 0

    def ends(self, run):
        """Say that nothing improves any more; with an adaptive rate lower it instead."""
        est = self.est
        what = "Training loss" if self.held_out is None else "Validation score"
        message = f"{what} did not improve more than tol={est.tol:f} for {est.n_iter_no_change} consecutive epochs."
        rate = run.optimizer.param_groups[0]["lr"]
        if est.solver != "sgd" or est.learning_rate != "adaptive":
            self.say(f"{message} Stopping.")
            return True
        if rate <= 1e-6:
            self.say(f"{message} Learning rate too small. Stopping.")
            return True
        self.set_rate(run, rate / 5.0)
        est._no_improvement_count = 0
        self.say(f"{message} Setting learning rate to {rate / 5.0:f}")
        return False

    def set_rate(self, run, rate):
        """Set the rate of all parameters from the next step on."""
        for group in run.optimizer.param_groups:
            group["lr"] = rate

    def on_end(self, run):
        """Put the parameters of the best epoch into the network."""
        if self.best is not None and run.error is None:
            run.net.theta = self.best["theta"]
            run.put_back(self.best["buffers"])

    def say(self, text):
        """Print where the estimator is verbose."""
        if self.est.verbose:
            print(text)
