"""Tools of the painted worlds: seeded noise, a canvas that labels what it paints, and image files.

A painted world is a synthetic data set, for trying the tool without a download. Its numbers come from
named seeds and from additions, products, quotients and square roots alone, which every processor rounds alike; sines
and exponentials differ in the last bit between mathematical libraries and are not used for pixels.
"""
