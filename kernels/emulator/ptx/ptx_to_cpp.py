#!/usr/bin/env python3
"""Translates the PTX that nvcc made of a kernel file to C++ for the emulator: so that what nvcc generated is
executed, inline assembly included, not only what the host compiler makes of the same source.

usage: ptx_to_cpp.py INPUT.ptx OUTPUT.cpp

Each kernel becomes a function that registers itself under the mangled name, by which a launch finds it.
Instructions that are not known are listed on stderr, and are fatal only if they are executed.
"""
import collections
import re
import sys

from ptx_function import Translator
from ptx_module import CPP, SIZES, parse_module

HEADER = '''#include "kernels/emulator/ptx/ptx_runtime.h"

namespace polar::emulator::ptx {
namespace {
'''


def constants(module):
    """The module's .const and .global arrays."""
    for variable in module.variables:
        if variable.space == 'shared':
            if variable.bytes:
                yield f'const char key_module_{variable.name} = 0;'
            continue
        count = variable.bytes // SIZES[variable.type]
        values = ', '.join(Translator.number_of(value)[0] if Translator.number_of(value) else '0'
                           for value in variable.values)
        yield (f'alignas({variable.alignment}) {CPP[variable.type]} module_{variable.name}[{count}] = '
               f'{{{values}}};')


def shared_keys(code):
    return [f'const char {key} = 0;' for key in sorted(set(re.findall(r'&(key_\d+_\w+)', code)))]


def translate(text):
    """(C++ text, how often each unknown instruction occurs)."""
    module = parse_module(text)
    translators = [Translator(function, module, number) for number, function in enumerate(module.functions)]
    bodies = [translator.translate() for translator in translators]
    out = [HEADER] + list(constants(module)) + shared_keys('\n'.join(bodies))
    out += [translator.signature() + ';' for translator in translators]
    for translator, body in zip(translators, bodies):
        out += [body, '#line 1 "translated PTX"']
        if translator.function.is_kernel:
            sizes = ', '.join(str(parameter.bytes) for parameter in translator.function.parameters)
            out.append(f'const Registered registered_{translator.number}{{"{translator.function.name}", '
                       f'&{translator.cpp_name()}, {translator.function.maximum_threads}, {module.capability}, '
                       f'{{{sizes}}}}};')
    out.append('}  // namespace\n}  // namespace polar::emulator::ptx')
    unknown = collections.Counter(name for translator in translators for name in translator.unknown)
    return '\n'.join(out) + '\n', unknown


def main():
    source, target = sys.argv[1:]
    with open(source, encoding='utf-8') as file:
        code, unknown = translate(file.read())
    with open(target, 'w', encoding='utf-8') as file:
        file.write(code)
    for name, count in sorted(unknown.items()):
        print(f'{source}: {name} is not translated ({count} times)', file=sys.stderr)


if __name__ == '__main__':
    main()
