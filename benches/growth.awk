# Draws what further families and further files cost, from lines `ITEMS INSTRUCTIONS INSTRUCTIONS`: the measured points over
# the straight line between the first and the last one, and in words how far from it they are.

{ items[NR] = $1; cost[1, NR] = $2; cost[2, NR] = $3 }

function panel(number, left, what,    i, slope, straight, off, most, x, y, top, words) {
	top = cost[number, NR]
	slope = (top - cost[number, 1]) / (items[NR] - items[1])
	printf "<g transform=\"translate(%d,60)\">\n", left
	printf "<path d=\"M0 0V300H400\" fill=\"none\" stroke=\"black\"/>\n"
	printf "<path d=\"M%.1f %.1fL400 0\" stroke=\"#c33\"/>\n", items[1] * 400 / items[NR], 300 - cost[number, 1] * 300 / top
	for (i = 1; i <= NR; i++) {
		straight = cost[number, 1] + slope * (items[i] - items[1])
		off = 100 * (cost[number, i] - straight) / straight
		if (off < 0) off = -off
		if (off > most) most = off
		x = items[i] * 400 / items[NR]
		y = 300 - cost[number, i] * 300 / top
		printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>\n", x, y
	}
	words = sprintf("%d instructions a further %s, at most %.1f %% off a straight line", slope, what, most)
	printf "<text y=\"-20\">%s</text>\n<desc>%s, from %d to %d.</desc>\n", words, words, items[1], items[NR]
	printf "<text x=\"400\" y=\"320\" text-anchor=\"end\">%d</text><text y=\"320\">%d</text>\n", items[NR], items[1]
	printf "<text x=\"6\" y=\"6\">%d instructions</text>\n</g>\n", top
}

END {
	print "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"960\" height=\"400\" font-family=\"sans-serif\" font-size=\"13\">"
	print "<rect width=\"960\" height=\"400\" fill=\"white\"/>"
	panel(1, 40, "family in telemetry_uuid")
	panel(2, 520, "file in profile.d")
	print "</svg>"
}
