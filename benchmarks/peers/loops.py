"""Workloads whose control flow depends on data, as plain Python: cellc and Numba take this source.

`define(math)` makes the functions over a module with `sin` and `sqrt`. They take and give numbers,
or fill an array that `zeros(height, width)` made.
"""

from types import SimpleNamespace

from benchmarks.workloads import PENDULUM_STEPS

MANDELBROT = (1000, 1000, 50)       # width, height, most rounds
RK45_END, RK45_TOLERANCE = 5.0, 1e-8


def define(sin, zeros):
    def newton(first, count):
        """Square roots by Newton's method, each to convergence: about a million rounds in all."""
        total = 0.0
        for k in range(count):
            x = first + 0.001 * k
            y = x
            while abs(y * y - x) > 1e-12 * x:
                y = 0.5 * (y + x / y)
            total = total + y
        return total

    def sine(x, count):
        """A million rounds, given when it runs."""
        i = 0
        while i < count:
            x = x * 0.999999 + 1e-6 * sin(x)
            i += 1
        return x

    def euler(y, count):
        """Euler's method until the solution is small; it never is before `count` steps."""
        v = 0.0
        for _ in range(count):
            y, v = y + 0.001 * v, v - 0.001 * (y + 0.1 * v)
            if y * y + v * v < 1e-3:
                break
        return y

    def kept(x, count):
        """A list that grows as data decide; a million rounds, half of which append."""
        found, i = [], 0
        while i < count:
            x = 0.9 * x + 0.1 * (i % 10)
            if x > 4.5:
                found.append(x)
            i += 1
        total = 0.0
        for v in found:
            total = total + v * v
        return total

    def slope(a, b, c, d, x, y):
        return a * x - b * x * y, d * x * y - c * y

    def rk45(a, b, c, d):
        """Dormand and Prince's method with adaptive steps on the Lotka-Volterra equations: the
        first coordinate at the end."""
        x, y, t, h = 10.0, 5.0, 0.0, 0.05
        while t < RK45_END:
            if t + h > RK45_END:
                h = RK45_END - t
            p1, q1 = slope(a, b, c, d, x, y)
            p2, q2 = slope(a, b, c, d, x + h * p1 / 5, y + h * q1 / 5)
            p3, q3 = slope(a, b, c, d, x + h * (3 * p1 + 9 * p2) / 40,
                           y + h * (3 * q1 + 9 * q2) / 40)
            p4, q4 = slope(a, b, c, d, x + h * (44 / 45 * p1 - 56 / 15 * p2 + 32 / 9 * p3),
                           y + h * (44 / 45 * q1 - 56 / 15 * q2 + 32 / 9 * q3))
            p5, q5 = slope(
                a, b, c, d,
                x + h * (19372 / 6561 * p1 - 25360 / 2187 * p2 + 64448 / 6561 * p3
                         - 212 / 729 * p4),
                y + h * (19372 / 6561 * q1 - 25360 / 2187 * q2 + 64448 / 6561 * q3
                         - 212 / 729 * q4))
            p6, q6 = slope(
                a, b, c, d,
                x + h * (9017 / 3168 * p1 - 355 / 33 * p2 + 46732 / 5247 * p3 + 49 / 176 * p4
                         - 5103 / 18656 * p5),
                y + h * (9017 / 3168 * q1 - 355 / 33 * q2 + 46732 / 5247 * q3 + 49 / 176 * q4
                         - 5103 / 18656 * q5))
            xn = x + h * (35 / 384 * p1 + 500 / 1113 * p3 + 125 / 192 * p4 - 2187 / 6784 * p5
                          + 11 / 84 * p6)
            yn = y + h * (35 / 384 * q1 + 500 / 1113 * q3 + 125 / 192 * q4 - 2187 / 6784 * q5
                          + 11 / 84 * q6)
            p7, q7 = slope(a, b, c, d, xn, yn)
            ex = h * (71 / 57600 * p1 - 71 / 16695 * p3 + 71 / 1920 * p4 - 17253 / 339200 * p5
                      + 22 / 525 * p6 - p7 / 40)
            ey = h * (71 / 57600 * q1 - 71 / 16695 * q3 + 71 / 1920 * q4 - 17253 / 339200 * q5
                      + 22 / 525 * q6 - q7 / 40)
            error = (abs(ex) + abs(ey)) / (RK45_TOLERANCE * (1.0 + abs(xn) + abs(yn)))
            if error <= 1.0:
                t, x, y = t + h, xn, yn
            h = h * min(5.0, max(0.2, 0.9 * (error + 1e-10) ** -0.2))
        return x

    def mandelbrot(width, height, most):
        out = zeros(height, width)
        for i in range(height):
            for j in range(width):
                cr = -2.0 + 3.0 * j / width
                ci = -1.5 + 3.0 * i / height
                zr = 0.0
                zi = 0.0
                n = 0
                while n < most and zr * zr + zi * zi < 4.0:
                    zr, zi = zr * zr - zi * zi + cr, 2.0 * zr * zi + ci
                    n += 1
                out[i, j] = n
        return out

    def pendulums(q, p):
        """Many pendulums as arrays, by the symplectic Euler method."""
        for _ in range(PENDULUM_STEPS):
            p = p - 0.01 * sin(q)
            q = q + 0.01 * p
        return q

    def nested_sines(x, depth):
        """Recursion, as deep as an argument says."""
        if depth == 0:
            return x
        return sin(nested_sines(x, depth - 1)) * 0.5 + x

    return SimpleNamespace(newton=newton, sine=sine, euler=euler, kept=kept, slope=slope,
                           rk45=rk45, mandelbrot=mandelbrot, pendulums=pendulums,
                           nested_sines=nested_sines)
