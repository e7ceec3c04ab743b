"""The network with two weights and no non-linearity: y = b a x, one example (x, y) = (1, 1), loss (1 - ab)^2.

At the origin the gradient is zero, and yet no training is done: it is a saddle. The Hessian says so, and its
eigenvector of the negative eigenvalue says where to go.

Run: python examples/two_parameter_network.py
"""

import numpy as np

import optcore as oc


def loss(theta):
    """(1 - ab)^2."""
    a, b = theta
    return (1 - a * b) ** 2


def gradient(theta):
    """(-2 b (1 - ab), -2 a (1 - ab))."""
    a, b = theta
    return -2 * (1 - a * b) * np.array([b, a])


def hessian_product(theta, v):
    """[[2 b^2, 4ab - 2], [4ab - 2, 2 a^2]] v."""
    a, b = theta
    return np.array([[2 * b * b, 4 * a * b - 2], [4 * a * b - 2, 2 * a * a]]) @ v


def main():
    """Tell the story; return the three points."""
    origin = np.zeros(2)
    objective = oc.Objective(loss, gradient, hessian_product, theta0=origin)

    print("1. Where training starts, the gradient is zero: gradient descent would stay there.")
    saddle = oc.curvature.classify(objective, origin)
    print(f"   gradient {objective.loss_and_grad(origin)[1] + 0.0}, loss {saddle.loss}")
    print("   Hessian\n  ", str(oc.curvature.Hessian(objective, origin) @ np.eye(2)).replace("\n", "\n   "))
    print(f"   eigenvalues {saddle.eigenvalues}: a {saddle.kind}, since one is negative and one positive")
    print(f"   direction of negative curvature {saddle.direction}, that is (1, 1)/sqrt(2) up to its sign\n")

    print("2. A step along that direction, either way, lowers the loss.")
    away = oc.curvature.escape(objective, origin, point=saddle)
    print(f"   to theta = {away.theta}: {away.message}\n")

    print("3. From there gradient descent goes down.")
    theta = away.theta.copy()
    optimizer = oc.optim.SGD(theta, lr=0.1)
    for _ in range(200):
        optimizer.step(objective.loss_and_grad(theta)[1])
    print(f"   200 steps at rate 0.1: theta = {theta}, ab = {theta[0] * theta[1]:.12f}\n")

    print("4. Where it stops:")
    minimum = oc.curvature.classify(objective, theta)
    print("  ", str(minimum).replace("\n", "\n   "))
    print("   The eigenvalues are 2 (a^2 + b^2) and 0: every point with ab = 1 is a minimum, and along that curve\n"
          "   the loss is flat.\n")

    print("5. The diagnosis, at the start and at the end:")
    for point in (origin, theta):
        print("  ", str(oc.diagnose(objective, point, optimizer)).replace("\n", "\n   ") + "\n")
    return saddle, away, minimum


if __name__ == "__main__":
    from common import arguments

    main(**arguments(__doc__))
