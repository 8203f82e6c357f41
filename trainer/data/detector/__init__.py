"""What the face detector that ships inside ``pfr_core`` is trained on: ``python -m trainer detector``.

split.py        which photographs are for testing only
photographs.py  the material: aligned faces, photographs, pictures without faces
pictures.py     a training picture: faces pasted onto backgrounds, or a piece of a photograph
spoil.py        what is done to whole pictures: gray, blur, noise, JPEG, scratches, light
targets.py      what each anchor should say
dataset.py      training pictures by number, with what their anchors should say
"""
