/** state.json and exit.json: whole or not there. Written beside and renamed, so a reader never sees half of one. */
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ShardExit } from '../../src/api/shard.ts'
import type { HostSpec, HostState } from './protocol.ts'

export const specPath = (dir: string): string => join(dir, 'spec.json')
const statePath = (dir: string): string => join(dir, 'state.json')
const exitPath = (dir: string): string => join(dir, 'exit.json')
const claimPath = (dir: string): string => join(dir, 'host.claim')

/** Atomic against readers and crashes of this process; 0600. */
export function writeJson(path: string, value: unknown): void {
  const beside = `${path}.new`
  writeFileSync(beside, JSON.stringify(value), { mode: 0o600 })
  renameSync(beside, path)
}

/** undefined when it is not there or is no JSON (a disk that lost it): then there is no such fact. */
export function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch {
    return undefined
  }
}

export const writeState = (dir: string, state: HostState): void => writeJson(statePath(dir), state)
export const writeExit = (dir: string, exit: ShardExit): void => writeJson(exitPath(dir), exit)
export const readSpec = (path: string): HostSpec => JSON.parse(readFileSync(path, 'utf8')) as HostSpec
export const readState = (dir: string): HostState | undefined => readJson(statePath(dir)) as HostState | undefined

/** Who may run this shard's host: the process that was first to say so. */
export interface Claim {
  readonly pid: number
  readonly startTime: string
}

/** A claim of nobody: the agent gave the start up. */
export const voidClaim: Claim = { pid: 0, startTime: 'void' }

/** A shard is started at most once: true for the first that asks, and only for it. The claim appears whole. */
export function takeClaim(dir: string, claim: Claim): boolean {
  const beside = `${claimPath(dir)}.${process.pid}`
  writeFileSync(beside, JSON.stringify(claim), { mode: 0o600 })
  try {
    linkSync(beside, claimPath(dir))
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    return false
  } finally {
    rmSync(beside, { force: true })
  }
}

export const readClaim = (dir: string): Claim | undefined => readJson(claimPath(dir)) as Claim | undefined
