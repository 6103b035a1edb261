"""A shop with known preferences, at any scale: seeded, streaming, the same bytes for the same arguments.

How an event comes about. A person u (a registered user or a guest) opens a session on day t:

    intent      a category c: one of the person's four favourites by weight x season(c, t), or with EXPLORE any category by popularity x season
    page        up to 8 items of c that are launched and in stock, drawn by popularity (new arrivals are boosted) and ordered by
                ORDER_BY_TASTE x utility + noise: the shop's own, imperfect ranking
    utility     U(u, i) = taste(u) . taste(i) + quality(i) - sensitivity(u) x max(0, price_position(i) - budget(u))
    click       at position p:  examination(p) x sigmoid(U + CLICK)
    complement  from a clicked item to one of its three planted complements, viewed with sigmoid(U + FOLLOW)
    cart        of a viewed item: sigmoid(U + CART);  purchase of a carted one: BUY

so P(purchase | shown at p) = examination(p) x sigmoid(U + CLICK) x sigmoid(U + CART) x BUY, and what a person truly wants of an item on day t, free of
position and of what happened to be shown, is

    preference(u, i, t) = P(category of i | u, t) x sigmoid(U + CLICK) x sigmoid(U + CART) x BUY

`preferences` holds these formulas, `truth.Truth` evaluates them from the files in DATA/truth. Purchases of consumables come back after the category's period,
some purchases are returned, users register and items are launched over time, items run out of stock for days.

Only a share of the pages (`impressions`, default 0.25) is logged as impressions with its clicks, so that they do not swallow the event budget; a
click on any page gives a detail-page-view. The mix is then about 34 % views, 30 % impressions, 14 % carts, 8 % purchases, 7 % clicks, 3 % searches.
"""
