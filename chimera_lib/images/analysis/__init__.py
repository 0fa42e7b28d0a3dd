"""What chimeras are made of: one question a file.

``criteria``: does a small margin tell a chimera? ``pockets``: how far does a conflict reach? ``maps``: what does its
neighbourhood look like? ``layers`` and ``products``: where does the difference start and how does it grow?
``prevalence``: how often do natural images conflict? ``transfer``: do chimeras hold on backends never searched on?
"""
