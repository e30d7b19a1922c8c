/** Small steps of the codecs: fields that may be absent, words of closed lists. */
import { invalid } from './json.ts'

type Defined<T> = { -readonly [K in keyof T]?: Exclude<T[K], undefined> }

/** The same without its undefined fields: absent stays absent on both sides. */
export function defined<T extends object>(fields: T): Defined<T> {
  const kept: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) kept[name] = value
  return kept as Defined<T>
}

/** The word, if it is one of the list; else OpError Invalid in Kubernetes' wording. */
export function oneOf<T extends string>(words: readonly T[], value: string | undefined, field: string): T {
  const word = words.find((w) => w === value)
  if (word !== undefined) return word
  const allowed = words.map((w) => `"${w}"`).join(', ')
  throw invalid(field, `Unsupported value: ${JSON.stringify(value ?? '')}: supported values: ${allowed}`)
}
/** The same for a field that may be absent. */
export const oneOfIfAny = <T extends string>(
  words: readonly T[],
  value: string | undefined,
  field: string,
): T | undefined => (value === undefined ? undefined : oneOf(words, value, field))
