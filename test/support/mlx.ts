/**
 * The real engine without agents: starts ranks of the mlx shim as a shardhost would, reads their events, asks them over
 * HTTP. Every process is remembered and killed by `stopAll`, whatever a test did.
 */
import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const repo = new URL('../..', import.meta.url).pathname
export const shimMain = join(repo, 'agent/runtimes/mlx/shim/main.py')

function userData(): string {
  if (process.env['MCTL_HOME']) return process.env['MCTL_HOME']
  if (process.platform === 'darwin') return join(homedir(), 'Library/Application Support/mctl')
  return join(process.env['XDG_DATA_HOME'] ?? join(homedir(), '.local/share'), 'mctl')
}

export const demoModel = join(process.env['MCTL_MODELS_DIR'] ?? join(userData(), 'models'), 'smollm2-135m')

/** The Python of the engine's environment, as `npm run setup` wrote it down. */
export function enginePython(): string {
  const file = join(userData(), 'engines/mlx.json')
  try {
    return (JSON.parse(readFileSync(file, 'utf8')) as { python: string }).python
  } catch (cause) {
    throw new Error(`no engine environment (${file}): run npm run setup first`, { cause })
  }
}

export function runPython(args: readonly string[], input?: string): string {
  const { status, stdout, stderr } = spawnSync(enginePython(), ['-B', ...args], {
    encoding: 'utf8',
    ...(input === undefined ? {} : { input }),
  })
  if (status !== 0) throw new Error(`python ${args.join(' ')} ended with ${status}\n${stderr}`)
  return stdout
}

/** A fresh folder that `stopAll` removes. */
export function tempFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'mctl-mlx-'))
  folders.push(folder)
  return folder
}

export function tinyModel(arch: 'qwen2' | 'llama', layers: number, kvHeads = 4): string {
  const folder = join(tempFolder(), `${arch}-${layers}`)
  const script = join(repo, 'test/support/tiny_models.py')
  runPython([script, folder, '--arch', arch, '--layers', String(layers), '--kv-heads', String(kvHeads)])
  return folder
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

export interface RankConfig {
  model: string
  servedName: string
  strategy: 'Single' | 'Pipeline' | 'Tensor'
  rank: number
  worldSize: number
  backend: 'ring' | null
  split: readonly number[] | null
  port: number
  contextTokens: number
  maxOutputTokens: number
  concurrency: number
  kvBudgetBytes: number | null
  memoryLimitBytes: number | null
  rendezvousDeadlineSeconds: number
  startupDeadlineSeconds: number
  prefillStepSize: number
  parentPid: number
}

export type RankEvent = { ev: string; rank: number; pid: number; t: number } & Record<string, unknown>
export interface RankEnd {
  code: number | null
  signal: NodeJS.Signals | null
}

export interface Rank {
  process: ChildProcess
  pid: number
  port: number
  events: RankEvent[]
  stderr: () => string
  end: Promise<RankEnd>
}

const ranks: Rank[] = []
const folders: string[] = []

export async function stopAll(): Promise<void> {
  try {
    await killRanks()
  } finally {
    for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
  }
}

export async function killRanks(): Promise<void> {
  const living = ranks.splice(0)
  for (const rank of living) rank.process.kill('SIGKILL')
  await Promise.all(living.map((rank) => rank.end))
}

const defaults = {
  servedName: 'tiny',
  strategy: 'Single',
  rank: 0,
  worldSize: 1,
  backend: null,
  split: null,
  contextTokens: 1024,
  maxOutputTokens: 512,
  concurrency: 2,
  kvBudgetBytes: null,
  memoryLimitBytes: null,
  rendezvousDeadlineSeconds: 40,
  startupDeadlineSeconds: 60,
  prefillStepSize: 64,
} as const

/** The launch file's text and the environment of one rank; what a real launcher makes. */
export function launchFile(config: Partial<RankConfig> & { model: string; port: number }): RankConfig {
  return { ...defaults, parentPid: process.pid, ...config }
}

export function rankEnvironment(extra: Record<string, string> = {}): Record<string, string> {
  return { PATH: process.env['PATH'] ?? '', HOME: tmpdir(), LANG: 'C.UTF-8', PYTHONUNBUFFERED: '1', ...extra }
}

export function startRank(config: RankConfig, env: Record<string, string> = {}): Rank {
  const file = join(tempFolder(), 'rank.json')
  writeFileSync(file, JSON.stringify(config))
  const child = spawn(enginePython(), ['-I', shimMain, '--config', file], {
    env: rankEnvironment({ MCTL_EVENTS_FD: '3', ...env }),
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
  })
  const events: RankEvent[] = []
  let rest = ''
  child.stdio[3]?.on('data', (chunk: Buffer) => {
    const lines = (rest + chunk.toString()).split('\n')
    rest = lines.pop() ?? ''
    events.push(...lines.map((line) => JSON.parse(line) as RankEvent))
  })
  let stderr = ''
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  const end = once(child, 'close').then(([code, signal]) => ({ code, signal }) as RankEnd)
  const rank = { process: child, pid: child.pid ?? -1, port: config.port, events, stderr: () => stderr, end }
  ranks.push(rank)
  return rank
}

export async function startSingle(config: Partial<RankConfig> & { model: string }): Promise<Rank> {
  const rank = startRank(launchFile({ port: await freePort(), ...config }))
  await seen(rank, 'ready')
  return rank
}

/** All ranks of a gang on loopback, not awaited: rank r of the answer is MLX rank r. */
export async function startGang(
  config: Partial<RankConfig> & { model: string; strategy: 'Pipeline' | 'Tensor' },
  perRank: (rank: number) => Partial<RankConfig> = () => ({}),
): Promise<Rank[]> {
  const worldSize = config.worldSize ?? 2
  const hosts = []
  for (let rank = 0; rank < worldSize; rank++) hosts.push([`127.0.0.1:${await freePort()}`])
  const hostfile = join(tempFolder(), 'hosts.json')
  writeFileSync(hostfile, JSON.stringify(hosts))
  const port = await freePort()
  return hosts.map((_, rank) =>
    startRank(launchFile({ backend: 'ring', port, ...config, worldSize, rank, ...perRank(rank) }), {
      MLX_RANK: String(rank),
      MLX_HOSTFILE: hostfile,
    }),
  )
}

export async function readyGang(...args: Parameters<typeof startGang>): Promise<Rank[]> {
  const gang = await startGang(...args)
  await Promise.all(gang.map((rank) => seen(rank, 'ready')))
  return gang
}

/** The first event of that kind; fails when the process ends without it. */
export async function seen(rank: Rank, ev: string, timeoutMs = 100_000): Promise<RankEvent> {
  let ended: RankEnd | undefined
  void rank.end.then((end) => (ended = end))
  for (const untilMs = Date.now() + timeoutMs; Date.now() < untilMs; await sleep(10)) {
    const event = rank.events.find((candidate) => candidate.ev === ev)
    if (event) return event
    if (ended) break
  }
  throw new Error(`rank ${rank.events[0]?.rank} never said ${ev} (${JSON.stringify(ended)})\n${rank.stderr()}`)
}

/** The code and reason a rank gave itself, and what the OS saw. */
export async function endOf(rank: Rank, timeoutMs = 60_000): Promise<RankEnd & { reason: string }> {
  const timeout = sleep(timeoutMs).then(() => {
    throw new Error(`the rank is still alive after ${timeoutMs} ms\n${rank.stderr()}`)
  })
  const end = await Promise.race([rank.end, timeout])
  return { ...end, reason: String(rank.events.find((event) => event.ev === 'exit')?.['reason'] ?? '') }
}

/** The newest heartbeat for which `wanted` holds. */
export async function beat(rank: Rank, wanted: (hb: RankEvent) => boolean, timeoutMs = 30_000): Promise<RankEvent> {
  const from = rank.events.length
  for (const untilMs = Date.now() + timeoutMs; Date.now() < untilMs; await sleep(20)) {
    const found = rank.events.slice(from).find((event) => event.ev === 'hb' && wanted(event))
    if (found) return found
  }
  throw new Error(`no such heartbeat; the last event is ${JSON.stringify(rank.events.at(-1))}`)
}

export interface Reply {
  status: number
  text: string
  json: unknown
}

export async function ask(rank: Rank, path: string, body?: unknown, signal?: AbortSignal): Promise<Reply> {
  const response = await fetch(`http://127.0.0.1:${rank.port}${path}`, {
    ...(body === undefined ? {} : { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body) }),
    ...(signal === undefined ? {} : { signal }),
  })
  const text = await response.text()
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    json = undefined
  }
  return { status: response.status, text, json }
}

interface Completion {
  model: string
  choices: { text?: string; finish_reason: string; logprobs?: { content: { id: number }[] } }[]
  usage: { prompt_tokens: number; completion_tokens: number }
}

export async function complete(rank: Rank, body: Record<string, unknown>): Promise<Completion> {
  const { status, text, json } = await ask(rank, '/v1/completions', body)
  if (status !== 200) throw new Error(`${status}: ${text}`)
  return json as Completion
}

/** Greedy token ids: what must be equal however a model is divided. */
export async function greedyIds(rank: Rank, prompt: string, maxTokens: number): Promise<number[]> {
  const { choices } = await complete(rank, { prompt, max_tokens: maxTokens, logprobs: true })
  return (choices[0]?.logprobs?.content ?? []).map(({ id }) => id)
}

/** A streamed completion that runs for long; resolves when its first bytes are here. */
export async function startStream(
  rank: Rank,
  maxTokens: number,
): Promise<{ cancel: () => void; rest: Promise<string> }> {
  const aborter = new AbortController()
  const response = await fetch(`http://127.0.0.1:${rank.port}/v1/completions`, {
    method: 'POST',
    body: JSON.stringify({ prompt: 'go', max_tokens: maxTokens, stream: true }),
    signal: aborter.signal,
  })
  const reader = (response.body as ReadableStream<Uint8Array>).getReader()
  const first = await reader.read()
  const rest = (async () => {
    const decoder = new TextDecoder()
    let text = decoder.decode(first.value)
    for (let part = await reader.read(); !part.done; part = await reader.read()) text += decoder.decode(part.value)
    return text
  })()
  rest.catch(() => {})
  return { cancel: () => aborter.abort(), rest }
}

/** Gone, or dead and only not yet collected by whoever inherited it. */
export function isGone(pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch {
    return true
  }
  const { stdout } = spawnSync('ps', ['-o', 'stat=', '-p', String(pid)], { encoding: 'utf8' })
  return stdout.trim() === '' || stdout.trim().startsWith('Z')
}
