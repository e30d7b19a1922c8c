/** The real llama.cpp of this machine for e2e tests, and its demo model; both are made by `npm run setup -- --llamacpp`. */
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'vitest'
import type { LlamaCppOptions } from '../../agent/runtimes/llamacpp/binaries.ts'
import { findBinaries } from '../../agent/runtimes/llamacpp/binaries.ts'
import { llamaCppRuntime } from '../../agent/runtimes/llamacpp/launch.ts'
import type { Runtimes } from '../../agent/runtimes/index.ts'
import { userDataDir } from '../../src/lib/userdata.ts'

const home = userDataDir(process.env, process.platform)
const folder = process.env['MCTL_LLAMACPP_DIR']
const options: LlamaCppOptions = {
  userDataDir: home,
  platform: process.platform,
  searchPath: process.env['PATH'] ?? '',
  ...(folder ? { folder } : {}),
}

export const GGUF_SOURCE = 'file:smollm2-135m-gguf'
export const ggufDir = join(process.env['MCTL_MODELS_DIR'] ?? join(home, 'models'), 'smollm2-135m-gguf')

function isInstalled(): boolean {
  const found = findBinaries(options)
  return found.kind === 'Found' && found.binaries.rpcServer !== undefined && existsSync(ggufDir)
}

/** Declares the tests of a file, or one skip that says what is lacking. */
export function withLlamaCpp(declare: () => void): void {
  if (isInstalled()) declare()
  else test.skip('llama.cpp is not installed here: npm run setup -- --llamacpp')
}

/** The runtime as an agent has it, probed. */
export async function llamaCpp(): Promise<Runtimes> {
  const runtime = llamaCppRuntime(options)
  const found = await runtime.probe()
  if (found.kind === 'Missing') throw new Error(found.remedy)
  return { llamacpp: runtime }
}

/** Bytes that the process holds and the system cannot take back: without the pages of mapped files. Linux only. */
export function heldBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0)
  return (kib('RssAnon') + kib('RssShmem')) * 1024
}

/** The same with the pages of files, as `ps` shows it. */
export function residentBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024
}

/** Living processes of a process group. */
export function groupMembers(pgid: number): readonly number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? []
        return Number(fields[2]) === pgid && fields[0] !== 'Z'
      } catch {
        return false
      }
    })
}
