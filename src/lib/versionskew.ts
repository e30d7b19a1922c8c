/** How far two releases of mctl are apart. Client, server and agents work together one minor version apart. */

export interface Minor {
  readonly major: number
  readonly minor: number
}

/** undefined for what is no version of a release. */
export function minorOf(version: string): Minor | undefined {
  const [, major, minor] = /^v?(\d+)\.(\d+)\./.exec(version) ?? []
  return major === undefined || minor === undefined ? undefined : { major: Number(major), minor: Number(minor) }
}

/** Which of the two is too old for the other; undefined: they work together, or one of them is no version. */
export function tooOld(one: string, other: string): 'one' | 'other' | undefined {
  const [a, b] = [minorOf(one), minorOf(other)]
  if (a === undefined || b === undefined) return undefined
  if (a.major === b.major && Math.abs(a.minor - b.minor) <= 1) return undefined
  return a.major < b.major || (a.major === b.major && a.minor < b.minor) ? 'one' : 'other'
}
