// Two setups at once must not build the same thing: a folder is the lock (mkdir is atomic), with the owner's pid in it.
import { mkdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const BEAT_MS = 2000
const STALE_MS = 30_000
const POLL_MS = 200

/** Runs `work` while holding the lock; waits for a living owner, takes over from a dead one. */
export async function withLock(path, say, work) {
  mkdirSync(dirname(path), { recursive: true })
  await take(path, say)
  const beat = setInterval(() => touch(path), BEAT_MS)
  beat.unref()
  try {
    return await work()
  } finally {
    clearInterval(beat)
    rmSync(path, { recursive: true, force: true })
  }
}

async function take(path, say) {
  for (let said = false; !tryTake(path); await sleep(POLL_MS)) {
    if (isStale(path)) clearStale(path)
    else if (!said) {
      said = true
      say(`waiting for another setup (pid ${ownerOf(path) ?? '?'})`)
    }
  }
}

function tryTake(path) {
  try {
    mkdirSync(path)
  } catch (error) {
    if (error.code === 'EEXIST') return false
    throw error
  }
  writeFileSync(join(path, 'pid'), String(process.pid))
  return true
}

/** Dead owner, or none that has moved for long (a pid may be in use again by a stranger). */
export function isStale(path) {
  const age = ageMs(path)
  if (age === undefined) return false
  const owner = ownerOf(path)
  return age > STALE_MS || (owner !== undefined && !isAlive(owner))
}

/** Only one may clear, and only what is still stale then: else a late comer would clear the fresh lock of a quicker one. */
function clearStale(path) {
  const guard = `${path}.clearing`
  if (!tryTake(guard)) {
    if ((ageMs(guard) ?? 0) > STALE_MS) rmSync(guard, { recursive: true, force: true })
    return
  }
  try {
    if (isStale(path)) rmSync(path, { recursive: true, force: true })
  } finally {
    rmSync(guard, { recursive: true, force: true })
  }
}

function ownerOf(path) {
  try {
    return Number(readFileSync(join(path, 'pid'), 'utf8')) || undefined
  } catch {
    return undefined
  }
}

function ageMs(path) {
  try {
    return Date.now() - statSync(path).mtimeMs
  } catch {
    return undefined
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}

function touch(path) {
  try {
    utimesSync(path, new Date(), new Date())
  } catch {
    // The lock is gone: whoever took it over has judged us dead, and our result will be the same as theirs.
  }
}
