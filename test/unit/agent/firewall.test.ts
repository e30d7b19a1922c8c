/** Which gates a gang needs, and the texts that make them; that the texts work is seen in e2e/network.test.ts (nftables). */
import { expect, test } from 'vitest'
import type { Program } from '../../../agent/firewall.ts'
import { Firewall, gateOf, programsFor } from '../../../agent/firewall.ts'
import type { Logger } from '../../../src/lib/log.ts'
import { silentLogger } from '../../../src/lib/log.ts'

const hosts = [['10.0.0.2:20005'], ['10.0.0.1:20003', '169.254.3.1:20003']]

test('a gang over a network has a gate for its members; a rank alone, and neighbours on one machine, have none', () => {
  expect(gateOf(20_003, hosts)).toEqual({ port: 20_003, members: ['10.0.0.1', '10.0.0.2', '169.254.3.1'] })
  expect(gateOf(20_003, [['[fd00::1]:20003'], ['10.0.0.1:1']])).toMatchObject({ members: ['10.0.0.1', 'fd00::1'] })
  expect(gateOf(20_003, hosts, ['10.5.0.1', '10.0.0.1'])).toMatchObject({
    members: ['10.0.0.1', '10.0.0.2', '10.5.0.1', '169.254.3.1'],
  })
  expect(gateOf(20_003, [['10.0.0.1:20003']])).toBeUndefined()
  expect(gateOf(20_003, [])).toBeUndefined()
  expect(gateOf(20_003, [['127.0.0.1:20003'], ['127.0.0.1:20006']])).toBeUndefined()
})

const gates = [
  { port: 20_003, members: ['10.0.0.1', '10.0.0.2'] },
  { port: 20_006, members: ['10.0.0.1', 'fd00::1'] },
]

test('nftables: the table is replaced whole, and gone when no gang runs', () => {
  expect(programsFor('linux', 'a1', gates)).toEqual([
    {
      argv: ['nft', '-f', '-'],
      input: `table inet mctl_a1 {}
delete table inet mctl_a1
table inet mctl_a1 {
  chain gangs {
    type filter hook input priority -10; policy accept;
    tcp dport 20003 ip saddr { 10.0.0.1, 10.0.0.2 } accept
    tcp dport 20003 iifname != "lo" reject with tcp reset
    tcp dport 20006 ip saddr { 10.0.0.1 } accept
    tcp dport 20006 ip6 saddr { fd00::1 } accept
    tcp dport 20006 iifname != "lo" reject with tcp reset
  }
}
`,
    },
  ])
  expect(programsFor('linux', 'a1', [])[0]?.input).toBe('table inet mctl_a1 {}\ndelete table inet mctl_a1\n')
})

test('pf: an anchor of its own under the one that macOS asks', () => {
  expect(programsFor('darwin', 'a1', gates)).toEqual([
    {
      argv: ['pfctl', '-a', 'com.apple/250.mctl-a1', '-f', '-'],
      input: `pass in quick proto tcp from { 10.0.0.1, 10.0.0.2 } to any port 20003
block return in quick on ! lo0 proto tcp from any to any port 20003
pass in quick proto tcp from { 10.0.0.1, fd00::1 } to any port 20006
block return in quick on ! lo0 proto tcp from any to any port 20006
`,
    },
    { argv: ['pfctl', '-E'], input: '' },
  ])
  expect(programsFor('darwin', 'a1', [])).toEqual([
    { argv: ['pfctl', '-a', 'com.apple/250.mctl-a1', '-F', 'rules'], input: '' },
  ])
})

test('gates of a link that is measured stand beside those of gangs, and go without them', async () => {
  const ran: Program[] = []
  const run = (program: Program) => (ran.push(program), Promise.resolve())
  const firewall = new Firewall({ platform: 'linux', dataDir: '/d', log: silentLogger, run })
  const portsNow = () => ran.at(-1)?.input.match(/dport \d+ ip saddr/g)
  await firewall.set([gates[1]!])
  await firewall.set([gates[0]!], 'links')
  expect(portsNow()).toEqual(['dport 20003 ip saddr', 'dport 20006 ip saddr'])
  await firewall.set([], 'links')
  expect(portsNow()).toEqual(['dport 20006 ip saddr'])
})

test('what an earlier agent left is replaced at once, the same is not said twice, and a refusal is told once', async () => {
  const ran: Program[] = []
  let refuse = false
  const warned: string[] = []
  const log = { ...silentLogger, warn: (message: string) => void warned.push(message) } as Logger
  const run = (program: Program) => {
    ran.push(program)
    return refuse ? Promise.reject(new Error('Operation not permitted')) : Promise.resolve()
  }
  const firewall = new Firewall({ platform: 'linux', dataDir: '/d', log, run })
  await firewall.set([])
  expect(ran).toHaveLength(1)
  await firewall.set(gates)
  await firewall.set(gates.toReversed())
  expect(ran).toHaveLength(2)
  refuse = true
  await firewall.set([{ ...gates[0]!, port: 20_010 }])
  await firewall.set([{ ...gates[1]!, port: 20_011 }])
  expect(warned).toEqual([expect.stringContaining('open to everybody on the network')])
  // It was not done, so it is tried again.
  refuse = false
  await firewall.set([{ ...gates[1]!, port: 20_011 }])
  expect(ran.at(-1)?.input).toContain('20011')
})

test('a firewall that cannot be told is a condition of the Node, and none when it can again', async () => {
  let refuse: string | undefined
  const run = () => (refuse === undefined ? Promise.resolve() : Promise.reject(new Error(refuse)))
  const firewall = new Firewall({ platform: 'linux', dataDir: '/d', log: silentLogger, run })
  const said = () => [firewall.condition().status, firewall.condition().reason]
  refuse = 'spawn nft ENOENT'
  expect(firewall.members()).toBeUndefined()
  await firewall.set([])
  expect(firewall.members()).toEqual([])
  // No gang runs: there is nothing to keep.
  expect(said()).toEqual(['False', 'GangPortsKept'])
  await firewall.set(gates)
  expect(said()).toEqual(['True', 'FirewallNotSet'])
  expect(firewall.members()).toEqual(['10.0.0.1', '10.0.0.2', '10.0.0.1', 'fd00::1'])
  expect(firewall.condition().message).toMatch(
    /^open to everybody on the network: gang ports 20003, 20006\. The firewall could not be told \(spawn nft ENOENT\)\. The agent needs root .* nft /,
  )
  // Tried again with nothing that changed but the obstacle.
  refuse = undefined
  await firewall.again()
  expect(said()).toEqual(['False', 'GangPortsKept'])
  // What stands in force is not said to be open, and a gang that ends takes the trouble with it.
  refuse = 'busy'
  await firewall.set([...gates, { port: 20_009, members: ['10.0.0.1', '10.0.0.3'] }])
  expect(firewall.condition().message).toContain('gang ports 20009.')
  await firewall.set(gates)
  expect(said()).toEqual(['False', 'GangPortsKept'])
})
