// Writes one JSON line for each request, and answers 200 only when the line is written. nginx's own log cannot be asked
// for that: it is written after the answer, and on a full disk it is not written at all.
import fs from 'fs';

// A file for each hour, so nobody has to rotate it. The first newline ends what a killed worker or a full disk left
// of a line; O_APPEND and one write(2) keep the lines of several workers apart.
function append(r, line) {
    const hour = new Date().toISOString().slice(0, 13);
    fs.appendFileSync(r.variables.spool + '/' + hour + '.jsonl', '\n' + line + '\n', { mode: 0o640 });
}

function answer(r, status, name, value) {
    if (name) {
        r.headersOut[name] = value;
    }
    r.headersOut['Content-Type'] = 'application/json';
    r.return(status, '{}');
}

// No address and no user agent, but for the program's own version.
function take(r) {
    if (r.method !== 'POST') {
        answer(r, 405, 'Allow', 'POST');
        return;
    }
    const agent = /^install-record\/([0-9A-Za-z.+~-]{1,32})$/.exec(r.headersIn['User-Agent'] || '');
    const line = {
        time: Date.now() / 1000,
        request: r.variables.request_id,
        version: agent ? agent[1] : '',
        body: r.requestText || '',
    };
    try {
        append(r, JSON.stringify(line));
    } catch (e) {
        // The sender keeps the record and comes back with the same id.
        answer(r, 503, 'Retry-After', '300');
        return;
    }
    answer(r, 200);
}

// Whether a line could be written now: a blank one is, which is ignored.
function health(r) {
    try {
        append(r, '');
    } catch (e) {
        answer(r, 503);
        return;
    }
    answer(r, 200);
}

export default { take, health };
