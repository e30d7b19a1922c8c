/** `KEY=VALUE` sets, `KEY-` removes: the words of label and annotate, beside the words that name objects. */
import { CliError } from '../context.ts'

export interface PairChanges {
  readonly set: ReadonlyMap<string, string>
  readonly removed: readonly string[]
}

/** Objects come first; from the first word on that sets or removes, all do. */
export function partWords(words: readonly string[]): {
  readonly objects: readonly string[]
  readonly changes: readonly string[]
} {
  const first = words.findIndex(isChange)
  if (first < 0) return { objects: words, changes: [] }
  const changes = words.slice(first)
  const stray = changes.find((word) => !isChange(word))
  if (stray !== undefined) throw new CliError(`all resources must be specified before changes: ${stray}`)
  return { objects: words.slice(0, first), changes }
}

const isChange = (word: string): boolean => word.includes('=') || word.endsWith('-')

export function pairChanges(words: readonly string[], noun: string): PairChanges {
  const set = new Map<string, string>()
  const removed: string[] = []
  for (const word of words) {
    const at = word.indexOf('=')
    if (at > 0) set.set(word.slice(0, at), word.slice(at + 1))
    else if (at < 0 && word.length > 1) removed.push(word.slice(0, -1))
    else throw new CliError(`invalid ${noun} spec: ${word}; use KEY=VALUE, or KEY- to remove it`)
  }
  const both = removed.find((key) => set.has(key))
  if (both !== undefined) throw new CliError(`cannot modify a ${noun} in the same command that removes it: ${both}`)
  return { set, removed }
}

type Pairs = Readonly<Record<string, string>>

/** Keys that stand there with another value. */
export const clashes = (pairs: Pairs, { set }: PairChanges): readonly string[] =>
  [...set].filter(([key, value]) => pairs[key] !== undefined && pairs[key] !== value).map(([key]) => key)

/** The merge patch of the map; undefined when it changes nothing. */
export function pairPatch(
  pairs: Pairs,
  { set, removed }: PairChanges,
): Readonly<Record<string, string | null>> | undefined {
  const changed = [...set].filter(([key, value]) => pairs[key] !== value)
  const gone = removed.filter((key) => pairs[key] !== undefined)
  if (changed.length + gone.length === 0) return undefined
  return { ...Object.fromEntries(changed), ...Object.fromEntries(gone.map((key) => [key, null])) }
}
