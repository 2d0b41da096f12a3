"""The course: lessons as text, their editions as notebooks, and the runner that proves them."""
