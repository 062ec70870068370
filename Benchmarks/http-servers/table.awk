# Reads the servers' names, then lines of round, name, requests per second and microseconds per request; prints medians
# with the lowest and highest, and how many times as much the servers of Rondo do, round by round.
function sorted(values, count,    i, j, value) {
    for (i = 2; i <= count; i++) {
        value = values[i]
        for (j = i - 1; j > 0 && values[j] > value; j--) values[j + 1] = values[j]
        values[j + 1] = value
    }
}
function summary(format, values, count,    middle) {
    sorted(values, count)
    middle = count % 2 ? values[(count + 1) / 2] : (values[count / 2] + values[count / 2 + 1]) / 2
    return sprintf(format " (" format "–" format ")", middle, values[1], values[count])
}
function column(kind, name,    r, values) {
    for (r = 1; r <= rounds; r++) values[r] = figures[kind, name, r]
    return summary(kind == "rate" ? "%d" : "%.1f", values, rounds)
}
# Requests for the same processor time, and requests per second, both as a multiple of the other server's.
function ratio(kind, ours, theirs,    r, values) {
    if (!((kind, ours, 1) in figures)) return "–"
    for (r = 1; r <= rounds; r++)
        values[r] = kind == "rate" ? figures[kind, ours, r] / figures[kind, theirs, r] \
            : figures[kind, theirs, r] / figures[kind, ours, r]
    return summary("%.2f", values, rounds)
}
FNR == NR { names[++count] = $1; next }
{ rounds = $1 > rounds ? $1 : rounds; figures["rate", $2, $1] = $3; figures["time", $2, $1] = $4 }
END {
    print "| server | requests/s | CPU µs a request | RondoHTTP does, in requests/s | per CPU time |" \
        " Hummingbird on Rondo does, in requests/s | per CPU time |"
    print "|---|---|---|---|---|---|---|"
    for (i = 1; i <= count; i++)
        printf "| %s | %s | %s | %s | %s | %s | %s |\n", names[i], column("rate", names[i]), column("time", names[i]), \
            ratio("rate", "RondoHTTP", names[i]), ratio("time", "RondoHTTP", names[i]), \
            ratio("rate", "Hummingbird-Rondo", names[i]), ratio("time", "Hummingbird-Rondo", names[i])
}
