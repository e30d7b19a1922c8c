/** The demo's stage: a `mctl dev` in the background, and the means to type commands, follow a group and kill a rank. */
import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { createInterface } from 'node:readline'
import type { ModelDeployment } from '../api/modeldeployment.ts'
import type { Shard } from '../api/shard.ts'
import { isTrue } from '../api/conditions.ts'
import { shardName } from '../api/shard.ts'
import type { ShardGroup } from '../api/shardgroup.ts'
import { sleep, systemClock } from '../lib/clock.ts'
import { formatBytes } from '../lib/quantity.ts'
import { nodeArgv } from '../lib/nodeargv.ts'
import type { Client } from '../rpc/messages.ts'
import type { Signals } from './signals.ts'

export interface DemoStage {
  readonly server: string
  readonly whereLogsAre: string
  title(title: string, text: string): void
  /** Runs `mctl …` in this terminal; throws when it fails. */
  mctl(...args: string[]): Promise<void>
  /** As mctl, where a "no" is the point. */
  mctlMayFail(...args: string[]): Promise<void>
  /** Prints each change of the deployment's shards until it is Ready. */
  follow(client: Client, deployment: string): Promise<void>
  /** Waits until the deployment is there. */
  arrives(client: Client, deployment: string): Promise<void>
  killRank(client: Client, group: string, rank: number): Promise<void>
  close(): Promise<void>
}

const FOLLOW_TIMEOUT_MS = 180_000
const POLL_MS = 100
const NAMESPACE = 'default'

export async function openStage(signals: Signals): Promise<DemoStage> {
  const server = `127.0.0.1:${await freePort(6480)}`
  const gateway = `127.0.0.1:${await freePort(6481)}`
  const args = ['dev', '--nodes', '3', '--listen', server, '--gateway', gateway]
  // On a Mac the agents share what the machine has; elsewhere they report the minis that mctl is made for.
  if (process.platform !== 'darwin') args.push('--simulate', 'chip=Apple M4,memory=16Gi,gpuCores=10')
  process.stdout.write(`$ mctl ${args.map((arg) => (arg.includes(' ') ? `"${arg}"` : arg)).join(' ')}\n`)
  const dev = startDev(args)
  await dev.ready
  return {
    server,
    whereLogsAre: dev.where(),
    title: (title, text) =>
      void process.stdout.write(`\n── ${title} ${'─'.repeat(Math.max(0, 70 - title.length))}\n${text}\n\n`),
    mctl: (...words) => typed(server, words, signals, true),
    mctlMayFail: (...words) => typed(server, words, signals, false),
    follow: (client, deployment) => follow(client, deployment, signals),
    arrives: (client, deployment) => arrives(client, deployment, signals),
    killRank,
    close: dev.close,
  }
}

/** `wanted` when nobody listens there, else any free port. */
function freePort(wanted: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', () => (wanted === 0 ? reject(new Error('no free port')) : resolve(freePort(0))))
    probe.listen(wanted, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo
      probe.close(() => resolve(port))
    })
  })
}

function startDev(args: readonly string[]) {
  const [node = process.execPath, ...rest] = nodeArgv(import.meta.url, 'mctl')
  const child: ChildProcess = spawn(node, [...rest, ...args], { detached: true, stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = new Promise<void>((resolve) => child.on('exit', () => resolve()))
  let where = ''
  const ready = new Promise<void>((resolve, reject) => {
    if (child.stdout !== null)
      createInterface({ input: child.stdout }).on('line', (line) => {
        process.stdout.write(`${line}\n`)
        where = /data in (\S+)/.exec(line)?.[1] ?? where
        if (line === 'ready') resolve()
      })
    child.on('exit', (code) => reject(new Error(`mctl dev exited with ${code ?? 'a signal'} before it was ready`)))
  })
  const close = async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM')
    await exited
  }
  return { ready, close, where: () => (where === '' ? '' : `Logs are in ${where}/logs.`) }
}

function typed(server: string, words: readonly string[], signals: Signals, mustSucceed: boolean): Promise<void> {
  if (signals.first.aborted) return Promise.reject(new Error('interrupted'))
  process.stdout.write(`$ mctl ${words.map((word) => (/[\s?*]/.test(word) ? `"${word}"` : word)).join(' ')}\n`)
  const [node = process.execPath, ...rest] = nodeArgv(import.meta.url, 'mctl')
  const child = spawn(node, [...rest, ...words], {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, MCTL_SERVER: server },
  })
  return new Promise((resolve, reject) =>
    child.on('exit', (code) => {
      process.stdout.write('\n')
      if (mustSucceed && code !== 0) reject(new Error(`mctl ${words[0] ?? ''} exited with ${code ?? 'a signal'}`))
      else resolve()
    }),
  )
}

async function follow(client: Client, name: string, signals: Signals): Promise<void> {
  const startMs = systemClock.monotonicMs()
  const told = new Map<string, string>()
  for (;;) {
    const elapsedMs = systemClock.monotonicMs() - startMs
    const deployment = (await client.get({ ref: { kind: 'ModelDeployment', namespace: NAMESPACE, name } }))
      .object as ModelDeployment
    const { items } = await client.list({
      kind: 'Shard',
      namespace: NAMESPACE,
      fieldSelector: `spec.deployment=${name}`,
    })
    for (const shard of items as readonly Shard[]) tell(told, shard, elapsedMs)
    if (isReady(deployment))
      return void process.stdout.write(`  ${name} is Ready after ${(elapsedMs / 1000).toFixed(1)} s\n\n`)
    if (signals.first.aborted) throw new Error('interrupted')
    if (elapsedMs > FOLLOW_TIMEOUT_MS)
      throw new Error(`${name} was not Ready within ${FOLLOW_TIMEOUT_MS / 1000} s: ${lastWords(deployment)}`)
    await sleep(systemClock, POLL_MS, signals.first)
  }
}

async function arrives(client: Client, name: string, signals: Signals): Promise<void> {
  const startMs = systemClock.monotonicMs()
  for (;;) {
    const { items } = await client.list({ kind: 'ModelDeployment', fieldSelector: `metadata.name=${name}` })
    const elapsedMs = systemClock.monotonicMs() - startMs
    if (items.length > 0)
      return void process.stdout.write(`  ${name} is there after ${(elapsedMs / 1000).toFixed(1)} s\n\n`)
    if (signals.first.aborted) throw new Error('interrupted')
    if (elapsedMs > FOLLOW_TIMEOUT_MS) throw new Error(`${name} did not come: see \`mctl describe sync\``)
    await sleep(systemClock, POLL_MS, signals.first)
  }
}

const isReady = ({ metadata, status }: ModelDeployment): boolean =>
  status?.observedGeneration === metadata.generation && isTrue(status.conditions, 'Ready')

const lastWords = ({ status }: ModelDeployment): string =>
  (status?.conditions ?? [])
    .filter((c) => c.status !== 'True')
    .map((c) => `${c.type}: ${c.message}`)
    .join('; ')

function tell(told: Map<string, string>, { metadata, spec, status }: Shard, elapsedMs: number): void {
  const phase = status?.phase ?? 'Pending'
  if (told.get(metadata.uid) === phase) return
  told.set(metadata.uid, phase)
  const what = `rank ${spec.rank}/${spec.worldSize} on ${spec.nodeName}, epoch ${spec.epoch}, layers [${spec.stage[0]}, ${spec.stage[1]}), ${formatBytes(spec.memoryBytes)}`
  process.stdout.write(`  ${(elapsedMs / 1000).toFixed(1).padStart(5)} s  ${phase.padEnd(9)} ${what}\n`)
}

async function killRank(client: Client, groupName: string, rank: number): Promise<void> {
  const group = (await client.get({ ref: { kind: 'ShardGroup', namespace: NAMESPACE, name: groupName } }))
    .object as ShardGroup
  const name = shardName(groupName, group.spec.epoch, rank)
  const shard = (await client.get({ ref: { kind: 'Shard', namespace: NAMESPACE, name } })).object as Shard
  const pid = shard.status?.pid
  if (pid === undefined) throw new Error(`${name} reports no pid`)
  process.stdout.write(`$ kill -9 ${pid}    # ${name} on ${shard.spec.nodeName}\n`)
  process.kill(pid, 'SIGKILL')
  // The deployment stands as Ready until the agent has seen it: what follows must be the new epoch's story.
  while (
    ((await client.get({ ref: { kind: 'ShardGroup', namespace: NAMESPACE, name: groupName } })).object as ShardGroup)
      .spec.epoch === group.spec.epoch
  )
    await sleep(systemClock, POLL_MS)
}
