"""What the painted worlds share: seeded noise, a canvas that labels what it paints, and files of fixed settings.

A painted world is a data set made on the spot, for trying the machinery without a download. Its numbers come from
named seeds and from additions, products, quotients and square roots alone, which every processor rounds alike; sines
and exponentials differ in the last bit between mathematical libraries and are not used for pixels.
"""
