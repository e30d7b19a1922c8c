#!/usr/bin/env node
// What `ifconfig` changes of a Mac that is a folder (fakemac.ts): the recorded output of `ifconfig -a` in the folder above.
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

const dir = dirname(dirname(process.argv[1]))
const args = process.argv.slice(2)
const read = (name) => readFileSync(join(dir, name), 'utf8')

function change() {
  appendFileSync(join(dir, 'changes.log'), `ifconfig ${args.join(' ')}\n`)
  if (existsSync(join(dir, 'broken.txt')) && args.join(' ').includes(read('broken.txt')))
    fail('ifconfig: ioctl (SIOCAIFADDR): permission denied')
  const [name, verb, ...rest] = args
  const blocks = read('ifconfig.txt').split(/^(?=\S+: flags=)/m)
  const index = blocks.findIndex((block) => block.startsWith(`${name}: `))
  if (index < 0) fail(`ifconfig: interface ${name} does not exist`)
  blocks[index] = changed(blocks[index], name, verb, rest)
  writeFileSync(join(dir, 'ifconfig.txt'), blocks.join(''))
}

function changed(block, name, verb, rest) {
  switch (verb) {
    case 'up':
      return withFlags(block, true)
    case 'down':
      return withFlags(block, false)
    case 'addm':
      if (read('ifconfig.txt').includes(`\tmember: ${rest[0]} `)) fail(`ifconfig: BRDGADD ${rest[0]}: Device busy`)
      return block.replace(/^(?=\tnd6|\tmedia)/m, member(rest[0]))
    case 'deletem':
      if (!block.includes(`\tmember: ${rest[0]} `)) fail(`ifconfig: BRDGDEL ${rest[0]}: No such file or directory`)
      return block.replace(new RegExp(`^\\tmember: ${rest[0]} .*\\n.*ifmaxaddr.*\\n`, 'm'), '')
    case 'inet':
      return withAddress(block, rest)
    default:
      return fail(`ifconfig: ${verb}: bad value`)
  }
}

const member = (name) =>
  `\tmember: ${name} flags=3<LEARNING,DISCOVER>\n\t        ifmaxaddr 0 port 8 priority 0 path cost 0\n`

function withAddress(block, [address, ...words]) {
  const line = new RegExp(`^\\tinet ${address.replaceAll('.', '\\.')} .*\\n`, 'm')
  if (words[0] === '-alias') {
    if (!line.test(block)) fail("ifconfig: ioctl (SIOCDIFADDR): Can't assign requested address")
    return block.replace(line, '')
  }
  const mask = words[1].split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
  const number = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
  const last = number - (number % (2 ** 32 - mask)) + (2 ** 32 - mask) - 1
  const broadcast = [24, 16, 8, 0].map((shift) => Math.floor(last / 2 ** shift) % 256).join('.')
  const text = `\tinet ${address} netmask 0x${mask.toString(16)} broadcast ${broadcast}\n`
  const bare = words[2] === 'alias' ? block.replace(line, '') : block.replace(/^\tinet .*\n/gm, '')
  return withFlags(bare.replace(/^(?=\tnd6|\tmedia)/m, text), true)
}

function withFlags(block, up) {
  return block.replace(/flags=([0-9a-f]+)<([^>]*)>/, (_, hex, names) => {
    const rest = names.split(',').filter((word) => word !== 'UP' && word !== 'RUNNING')
    const number = (parseInt(hex, 16) & ~0x41) | (up ? 0x41 : 0)
    const smart = rest.indexOf('SMART') + 1
    return `flags=${number.toString(16)}<${(up ? ['UP', ...rest.slice(0, smart), 'RUNNING', ...rest.slice(smart)] : rest).join(',')}>`
  })
}

function fail(message) {
  process.stderr.write(`${message}\n`)
  process.exit(1)
}

change()
