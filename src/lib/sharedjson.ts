/**
 * JSON of values that never change again, made once whoever asks for it: the store writes its text, the wire sends its
 * bytes. A value that is not frozen may change, so it is encoded afresh each time. A shallow look must do: who freezes
 * what it shares freezes it down to its leaves.
 */
const known = new WeakMap<object, string | Buffer>()

export function sharedJson(value: object): string {
  const json = known.get(value)
  if (json !== undefined) return typeof json === 'string' ? json : json.toString()
  const text = JSON.stringify(value)
  if (Object.isFrozen(value)) known.set(value, text)
  return text
}

/** The same as UTF-8; not to be written into. */
export function sharedJsonBytes(value: object): Buffer {
  const json = known.get(value)
  if (typeof json === 'object') return json
  const bytes = Buffer.from(json ?? JSON.stringify(value))
  if (Object.isFrozen(value)) known.set(value, bytes)
  return bytes
}
