"""Training of the face detector that ships inside ``pfr_core``: ``python -m trainer detector``.

split.py        which photographs are for testing only
photographs.py  what is trained on: aligned faces, photographs, pictures without faces
pictures.py     a training picture: faces pasted onto backgrounds, or a piece of a photograph
spoil.py        what is done to whole pictures: gray, blur, noise, JPEG, scratches, light
targets.py      what each anchor should say, and the multi-box loss
train.py        the run: batches, steps, checkpoints, export
evaluate.py     recall, false positives and points on the test photographs; tables and curves
"""
