/** Ages as kubectl prints them: two units at most, and only where the second one still says something. */

const SECOND = 1000
const MINUTE = 60
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR
const YEAR = 365 * DAY

/** `119s`, `9m5s`, `179m`, `7h5m`, `47h`, `7d3h`, `729d`, `3y40d`. A time in the future (clocks differ) is `0s`. */
export function ageOf(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / SECOND))
  if (seconds < 2 * MINUTE) return `${seconds}s`
  if (seconds < 10 * MINUTE) return twoUnits(seconds, MINUTE, 'm', 1, 's')
  if (seconds < 3 * HOUR) return `${Math.floor(seconds / MINUTE)}m`
  if (seconds < 8 * HOUR) return twoUnits(seconds, HOUR, 'h', MINUTE, 'm')
  if (seconds < 2 * DAY) return `${Math.floor(seconds / HOUR)}h`
  if (seconds < 8 * DAY) return twoUnits(seconds, DAY, 'd', HOUR, 'h')
  if (seconds < 2 * YEAR) return `${Math.floor(seconds / DAY)}d`
  return seconds < 8 * YEAR ? twoUnits(seconds, YEAR, 'y', DAY, 'd') : `${Math.floor(seconds / YEAR)}y`
}

function twoUnits(seconds: number, unit: number, word: string, smaller: number, smallerWord: string): string {
  const rest = Math.floor((seconds % unit) / smaller)
  return `${Math.floor(seconds / unit)}${word}${rest === 0 ? '' : `${rest}${smallerWord}`}`
}

/** Age of a timestamp; `<unknown>` when there is none or it is no time. */
export function ageSince(timestamp: string | undefined, nowMs: number): string {
  const thenMs = Date.parse(timestamp ?? '')
  return Number.isNaN(thenMs) ? '<unknown>' : ageOf(nowMs - thenMs)
}
