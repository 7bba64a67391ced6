"""A rendered data set in nuScenes' format that anyone can have: ``racdino data synthesize``.

A scene is a stretch of ring road with traffic (``road``, ``traffic``, ``world``), seen from a moving car by six
cameras, five radars and a LiDAR (``calibration``, ``cameras``, ``radar``, ``lidar``). ``scene`` renders one, ``tables``
describes them as nuScenes does and ``dataset`` puts a whole data set in place, or none. It is never passed off as
nuScenes.
"""
