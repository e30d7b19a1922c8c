/**
 * The previous build and this one in one cluster with identities: joined, serving and healing in every mixture that an
 * upgrade goes through, server first, and in the one that it should not (a new agent at an old server).
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { systemClock } from '../../src/lib/clock.ts'
import { makeFirstKey } from '../../src/server/trust/keys.ts'
import { claimPortRange } from '../support/ports.ts'
import { previousBuild } from '../support/previousbuild.ts'
import type { Ran } from '../support/processes.ts'
import { Running, endAll, freePort, mctl, root, tempDir, until } from '../support/processes.ts'

const NEW = join(root, 'dist/src/bin/mctl.js')
/** Without history the mixtures are of one build: what they cannot show then was said on stderr. */
const OLD = previousBuild() ?? NEW
const NODES = ['a', 'b']

afterEach(endAll)

interface Shard {
  readonly spec: { readonly epoch: number; readonly nodeName: string; readonly rank: number }
  readonly status?: { readonly phase?: string; readonly pid?: number }
}

class Mixed {
  readonly #dir = tempDir()
  readonly #data = join(this.#dir, 'server')
  readonly #listen: string
  readonly #gateway: string
  #server: Running | undefined
  readonly #agents = new Map<string, { running: Running; portRange: string }>()
  #key = ''

  private constructor(listen: string, gateway: string) {
    this.#listen = listen
    this.#gateway = gateway
  }

  /** Identities without a network: the authority is there before the server is. */
  static async make(): Promise<Mixed> {
    const mixed = new Mixed(`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`)
    await makeFirstKey(mixed.#data, 'mixed', systemClock)
    return mixed
  }

  mctl(...args: string[]): Promise<Ran> {
    return mctl(args, { MCTL_DATA_DIR: this.#data })
  }

  async serve(program: string): Promise<void> {
    await this.#server?.end()
    const args = ['server', '--data-dir', this.#data, '--listen', this.#listen, '--gateway', this.#gateway]
    this.#server = new Running(args, join(this.#dir, 'server.log'), {}, program)
    await until(async () => (await this.mctl('get', 'nodes')).code === 0, 60_000, 'the server serves')
    if (this.#key === '') this.#key = (await this.mctl('api-key', 'create', 'test')).stdout.trim()
  }

  /** Joins by token the first time; later it is the node that it was. */
  async agent(name: string, program: string): Promise<void> {
    const known = this.#agents.get(name)
    await known?.running.end()
    const portRange = known?.portRange ?? (await claimPortRange())
    const { stdout } = known === undefined ? await this.mctl('join-token', 'create', '--node', name) : { stdout: '' }
    const args = ['agent', '--server', this.#listen, '--name', name, '--data-dir', join(this.#dir, name)]
    args.push('--port-range', portRange, '--simulate', 'chip=Apple M4,memory=16Gi,gpuCores=10')
    const token = /MCTL_TOKEN=(\S+)/.exec(stdout)?.[1] ?? ''
    const running = new Running(args, join(this.#dir, `${name}.log`), { MCTL_TOKEN: token }, program)
    this.#agents.set(name, { running, portRange })
    await until(
      async () => new RegExp(`^${name} +Ready`, 'm').test((await this.mctl('get', 'nodes')).stdout),
      60_000,
      `${name} is Ready`,
    )
  }

  async apply(name: string): Promise<void> {
    const file = join(this.#dir, `${name}.json`)
    const spec = {
      model: { name },
      parallelism: { strategy: 'Pipeline', degree: 2 },
      serving: { contextTokens: 512, concurrency: 1 },
      engine: { name: 'fake' },
    }
    const shape = {
      ...{ architecture: 'llama', layers: 4, hiddenSize: 64, attentionHeads: 4, kvHeads: 4, headDim: 16 },
      ...{ vocabSize: 1000, parameters: 1_000_000, weightBytes: 2_000_000 },
    }
    const of = (kind: string, fields: object) => ({
      apiVersion: 'mctl.dev/v1alpha1',
      kind,
      metadata: { name },
      spec: fields,
    })
    writeFileSync(
      file,
      [of('Model', { shape }), of('ModelDeployment', spec)].map((o) => JSON.stringify(o)).join('\n---\n'),
    )
    expect(await this.mctl('apply', '-f', file, '--wait', '--timeout', '60s')).toMatchObject({ code: 0 })
  }

  async answers(model: string): Promise<boolean> {
    const response = await fetch(`http://${this.#gateway}/v1/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${this.#key}` },
      body: JSON.stringify({ model, prompt: 'hello', max_tokens: 4 }),
    })
    return response.status === 200
  }

  async shards(): Promise<readonly Shard[]> {
    return (JSON.parse((await this.mctl('get', 'shards', '-o', 'json')).stdout) as { items: Shard[] }).items
  }

  /** Kills a rank; resolves when the next epoch answers. */
  async heals(model: string): Promise<void> {
    const [shard] = await this.shards()
    process.kill(shard?.status?.pid ?? -1, 'SIGKILL')
    const epoch = (shard?.spec.epoch ?? 0) + 1
    const ready = async () => {
      const now = await this.shards()
      return now.length === 2 && now.every(({ spec, status }) => spec.epoch >= epoch && status?.phase === 'Ready')
    }
    await until(ready, 60_000, 'the next epoch is Ready')
    await until(() => this.answers(model), 20_000, 'it answers again')
  }
}

test('an upgrade, server first: old agents serve and heal under the new server, and a gang of both kinds does', async () => {
  const mixed = await Mixed.make()
  await mixed.serve(OLD)
  for (const name of NODES) await mixed.agent(name, OLD)
  await mixed.apply('m')
  await until(() => mixed.answers('m'), 20_000, 'it answers')
  const pids = (await mixed.shards()).map(({ status }) => status?.pid)
  await mixed.serve(NEW)
  await until(() => mixed.answers('m'), 20_000, 'it answers under the new server')
  await mixed.agent('a', NEW)
  // Nothing was started anew by all that.
  expect((await mixed.shards()).map(({ status }) => status?.pid)).toEqual(pids)
  await mixed.heals('m')
  await mixed.agent('b', NEW)
  expect(await mixed.answers('m')).toBe(true)
}, 240_000)

test('a new agent at an old server: it joins, serves and heals', async () => {
  const mixed = await Mixed.make()
  await mixed.serve(OLD)
  for (const name of NODES) await mixed.agent(name, NEW)
  await mixed.apply('m')
  await until(() => mixed.answers('m'), 20_000, 'it answers')
  await mixed.heals('m')
}, 240_000)
