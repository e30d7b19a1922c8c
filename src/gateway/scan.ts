/**
 * Reads one string of a JSON body without parsing the body: a 220 KB prompt is skipped at the speed of a byte search,
 * and the engine receives the client's bytes unchanged. Malformed JSON is the engine's to refuse.
 */
const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN = new Set([0x7b, 0x5b])
const CLOSE = new Set([0x7d, 0x5d])
const COLON = 0x3a

/** Value of the top-level key when it is a string (the last one wins, as in every JSON reader); else undefined. */
export function topLevelString(body: Buffer, key: string): string | undefined {
  let depth = 0
  let found: string | undefined
  for (let at = 0; at < body.length; at++) {
    const byte = body[at] as number
    if (OPEN.has(byte)) depth++
    else if (CLOSE.has(byte)) depth--
    else if (byte === QUOTE) {
      const end = stringEnd(body, at)
      if (end === -1) return found
      const valueAt = depth === 1 ? valueStart(body, end + 1) : -1
      if (valueAt !== -1 && textOf(body, at, end) === key) {
        found = stringAt(body, valueAt)
      }
      at = end
    }
  }
  return found
}

/** Index of the closing quote of the string that opens at `at`, or -1. */
function stringEnd(body: Buffer, at: number): number {
  for (let end = body.indexOf(QUOTE, at + 1); end !== -1; end = body.indexOf(QUOTE, end + 1)) {
    let slashes = 0
    while (body[end - 1 - slashes] === BACKSLASH) slashes++
    if (slashes % 2 === 0) return end
  }
  return -1
}

/** Index of the value after a key that ended before `at`, or -1 when no colon follows (it was a value itself). */
function valueStart(body: Buffer, at: number): number {
  let i = skipSpace(body, at)
  if (body[i] !== COLON) return -1
  i = skipSpace(body, i + 1)
  return i < body.length ? i : -1
}

function skipSpace(body: Buffer, at: number): number {
  let i = at
  while (i < body.length && (body[i] as number) <= 0x20) i++
  return i
}

function stringAt(body: Buffer, at: number): string | undefined {
  if (body[at] !== QUOTE) return undefined
  const end = stringEnd(body, at)
  return end === -1 ? undefined : textOf(body, at, end)
}

function textOf(body: Buffer, at: number, end: number): string | undefined {
  try {
    return JSON.parse(body.toString('utf8', at, end + 1)) as string
  } catch {
    return undefined
  }
}
