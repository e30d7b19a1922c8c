/** Links measured through the real engine: by two ranks with a slow wire between them, and by two real agents that are idle. */
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { LinkBench, readFigures } from '../../agent/links/bench.ts'
import { PortPool } from '../../agent/ports.ts'
import { launchLinkBench } from '../../agent/runtimes/mlx/launch.ts'
import type { EngineFigures } from '../../src/api/links.ts'
import type { Node, NodeLink } from '../../src/api/node.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { tinyShape } from '../support/cluster.ts'
import { enginePython } from '../support/mlx.ts'
import { claimPorts } from '../support/ports.ts'
import { endAll, freePort, mctl, removeDir, root, tempDir, until } from '../support/processes.ts'
import { RealCluster } from '../support/realcluster.ts'
import { processesOf } from '../support/remains.ts'

const LOOPBACK = '127.0.0.1'
const folders: string[] = []
const proxies: Server[] = []
afterEach(() => {
  for (const proxy of proxies.splice(0)) proxy.close()
  for (const dir of folders.splice(0)) rmSync(dir, { recursive: true, force: true })
})
afterAll(endAll)

async function benchOf(isServing = () => false): Promise<LinkBench> {
  const dataDir = mkdtempSync('/tmp/mctl-bench-')
  folders.push(dataDir)
  const installation = { python: enginePython(), codeDir: join(root, 'agent/runtimes/mlx') }
  return new LinkBench({
    launch: (input) => launchLinkBench(installation, input),
    ports: new PortPool({ range: await claimPorts(), dataDir, clock: systemClock }),
    dataDir,
    isServing,
    clock: systemClock,
  })
}

/** What is sent to it arrives at the port so many ms later; its own port. */
async function wireTo(port: number, delayMs: number): Promise<number> {
  const carry = (from: Socket, to: Socket) => {
    from.setNoDelay(true)
    from.on('data', (chunk: Buffer) => void setTimeout(() => to.write(chunk), delayMs))
    from.on('end', () => void setTimeout(() => to.end(), delayMs)).on('error', () => to.destroy())
  }
  // A rank that listens a moment later must look to the other as if it was the port itself.
  const reach = (near: Socket) => {
    const far = connect({ host: LOOPBACK, port })
    far.once('error', () => void setTimeout(() => reach(near), 100))
    far.once('connect', () => {
      carry(near, far)
      carry(far, near)
    })
  }
  const proxy = createServer(reach)
  proxies.push(proxy)
  await new Promise<void>((resolve) => proxy.listen(0, LOOPBACK, resolve))
  return (proxy.address() as AddressInfo).port
}

/** Two ranks with a wire of their own between them, which slows both directions. */
async function measured(delayMs: number): Promise<EngineFigures> {
  const benches = [await benchOf(), await benchOf()] as const
  const ports = [await benches[0].take(LOOPBACK), await benches[1].take(LOOPBACK)] as const
  const wires = [await wireTo(ports[0], delayMs), await wireTo(ports[1], delayMs)] as const
  const ring = { address: LOOPBACK, peerAddress: LOOPBACK }
  const [said] = await Promise.all([
    benches[0].run({ ...ring, rank: 0, port: ports[0], peerPort: wires[1] }),
    benches[1].run({ ...ring, rank: 1, port: ports[1], peerPort: wires[0] }),
  ])
  const figures = readFigures(said, 1e9)
  if (figures === undefined) throw new Error(`no figures: ${said}`)
  return figures
}

describe('two ranks of the engine', () => {
  test('wait longer on a slower wire, for each all-reduce and for each hop', async () => {
    const near = await measured(0)
    const far = await measured(20)
    expect([near, far]).toEqual([near, far])
    // An all-reduce passes the wire twice: sums there, the result back. A hop passes it once to hand over, once to gather.
    expect(far.allReduceMicros).toBeGreaterThan(near.allReduceMicros + 20_000)
    expect(far.hopMicros).toBeGreaterThan(near.hopMicros + 20_000)
  })
  test('a rank ends at once when a shard is wanted, and none begins beside engines', async () => {
    const bench = await benchOf()
    const port = await bench.take(LOOPBACK)
    await expect(bench.take(LOOPBACK)).rejects.toThrow('another link is being measured')
    // Nobody comes: left alone it would wait for its 20 s.
    const ring = { rank: 0, address: LOOPBACK, port, peerAddress: LOOPBACK, peerPort: await freePort() } as const
    const running = bench.run(ring)
    running.catch(() => {})
    const [folder = ''] = folders.slice(-1)
    await until(() => processesOf(folder).length > 0, 10_000, 'the rank runs')
    bench.setWanted(true)
    // By itself it would end after its 20 s, and say the same.
    const late = sleep(10_000).then(() => Promise.reject(new Error('it runs still')))
    await expect(Promise.race([running, late])).rejects.toThrow('a shard is wanted here')
    late.catch(() => {})
    expect([processesOf(folder), readdirSync(join(folder, 'links'))]).toEqual([[], []])
    bench.release()
    await expect(bench.take(LOOPBACK)).rejects.toThrow('a shard is wanted here')
    const beside = await benchOf(() => true)
    await expect(beside.take(LOOPBACK)).rejects.toThrow('engines run here')
  })
})

const deployment = JSON.stringify({
  apiVersion: 'mctl.dev/v1alpha1',
  kind: 'ModelDeployment',
  metadata: { name: 'quick' },
  spec: {
    model: { name: 'shape' },
    parallelism: { strategy: 'Pipeline', degree: 2 },
    serving: { contextTokens: 1024, concurrency: 1 },
    engine: { name: 'fake' },
  },
})
const model = JSON.stringify({
  apiVersion: 'mctl.dev/v1alpha1',
  kind: 'Model',
  metadata: { name: 'shape' },
  spec: { shape: tinyShape },
})

describe('two idle agents', () => {
  test('yield to a deployment in mid-measuring, and measure the link when it has gone', async () => {
    const cluster = await RealCluster.start({ nodes: 2, simulate: false })
    const dir = tempDir()
    const run = (...args: string[]) => mctl([...args, '--server', cluster.address])
    const linkOf = async (name: string): Promise<NodeLink | undefined> => {
      const { object } = await cluster.client.get({ ref: { kind: 'Node', namespace: '', name } })
      return (object as unknown as Node).status?.links?.[0]
    }
    const benches = () =>
      processesOf(cluster.dir).filter((pid) => readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('linkbench.py'))
    try {
      await until(() => benches().length > 0, 60_000, 'a link is measured through the engine')
      // Else it might be done before the deployment has come.
      for (const pid of benches()) process.kill(pid, 'SIGSTOP')
      for (const [file, text] of [
        ['model.json', model],
        ['quick.json', deployment],
      ] as const)
        writeFileSync(join(dir, file), text)
      await run('apply', '-f', join(dir, 'model.json'))
      const applied = await run('apply', '-f', join(dir, 'quick.json'), '--wait', '--timeout', '30s')
      expect([applied.code, applied.stderr]).toEqual([0, ''])
      expect(benches()).toEqual([])
      const noted = await linkOf('mini-1')
      expect(noted?.allReduceMicros).toBeUndefined()
      expect(noted?.notMeasured).toMatch(/a shard is wanted here|ended before it was done/)

      expect((await run('delete', 'md', 'quick', '--timeout', '30s')).code).toBe(0)
      // A server that starts anew remembers no try: what is not measured is due.
      for (const { pid, role } of cluster.living()) if (role === 'server') process.kill(pid, 'SIGKILL')
      const known = async () => {
        const [one, other] = await Promise.all([linkOf('mini-1'), linkOf('mini-2')]).catch(() => [])
        return one?.allReduceMicros !== undefined && other?.allReduceMicros === one.allReduceMicros
      }
      await until(known, 90_000, 'the link is measured')
      const link = await linkOf('mini-2')
      expect(link).toMatchObject({ type: 'Loopback', peer: 'mini-1' })
      expect(link?.notMeasured).toBeUndefined()
      expect(link?.allReduceMicros).toBeGreaterThan(1)
      expect(link?.hopMicros).toBeGreaterThan(1)
      const told = (await run('get', 'links', '-o', 'wide', '--no-headers')).stdout
      expect(told).toContain(` ${link?.allReduceMicros} µs   ${link?.hopMicros} µs`)
      const events = (await run('describe', 'node', 'mini-1')).stdout
      expect(events).toMatch(/LinkChanged .*all-reduce \d+ µs, hop \d+ µs/)
      expect(readdirSync(join(cluster.dir, 'mini-1', 'links'))).toEqual([])
    } finally {
      await cluster.stop()
      removeDir(dir)
    }
  })
})
